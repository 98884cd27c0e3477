"""Look into a competition's folder: write a first conf/competition/<its name>.yaml, with a comment at each guess.

A file that exists is kept; what would be in it is printed.
"""

import argparse
import sys
from pathlib import Path

from plant_pathology.competition.look import look
from plant_pathology.core.checkout import checkout
from plant_pathology.core.ending import program


@program
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m plant_pathology.look", description=__doc__)
    parser.add_argument("folder", type=Path, help="the competition's folder, as Kaggle ships it")
    folder = parser.parse_args().folder.expanduser()  # not every shell does it in RAW=~/folder
    text = look(folder)
    print(text, end="")
    print(write(text, folder.resolve().name, folder), file=sys.stderr)


def write(text: str, name: str, folder: Path) -> str:
    """Write the file unless there is one, and return what was done."""
    file = Path("conf") / "competition" / f"{name}.yaml"
    try:
        with (checkout() / file).open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        return f"{file} exists already and is kept; delete it to get the one above"
    return f"wrote {file}: check its guesses, then make repro RAW={folder}"


if __name__ == "__main__":
    main()
