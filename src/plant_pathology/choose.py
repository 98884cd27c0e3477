"""Choose what this checkout works on: link a competition folder where the pipeline finds it, and name it in the config.

    python -m plant_pathology.choose <folder as Kaggle ships it> [<name of a file in conf/competition/>]

Nothing is copied: data/raw/<name> becomes a link. The choice is three lines of conf/choices.yaml, so git shows it.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import yaml

CHOICES = Path("conf/choices.yaml")
RECIPES = {"gpu": "ours", "cpu": "scratch", "cpu-bf16": "scratch"}  # for each machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m plant_pathology.choose", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the competition as Kaggle ships it")
    parser.add_argument("competition", nargs="?", help="a file of conf/competition/; default: the folder's name")
    arguments = parser.parse_args()
    try:
        choose(arguments.folder, arguments.competition or arguments.folder.resolve().name)
    except ValueError as error:
        sys.exit(f"error: {error}")


def choose(folder: Path, competition: str) -> None:
    """Link the folder, and make it, the machine at hand and its recipe the config's defaults.

    Raises:
        ValueError: there is no such folder or competition, or other files are in the link's place.
    """
    if not folder.is_dir():
        raise ValueError(f"RAW={folder}: there is no such folder")
    known = sorted(path.stem for path in Path("conf/competition").glob("*.yaml"))
    if competition not in known:
        raise ValueError(
            f"conf/competition/{competition}.yaml does not exist, only {', '.join(known)}:"
            " add it, or name one with COMPETITION=<name>"
        )
    link = Path("data/raw") / competition
    if link.resolve() != folder.resolve():
        if link.exists() and not link.is_symlink():
            raise ValueError(f"{link} holds files already: leave RAW= out to use them, or move them away")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(folder.resolve(), target_is_directory=True)
    text = CHOICES.read_text(encoding="utf-8")
    if choice_of(text, "competition") != competition:
        machine = machine_at_hand()
        chosen = {"competition": competition, "machine": machine, "recipe": RECIPES[machine]}
        for group, choice in chosen.items():
            text = with_choice(text, group, choice)
        CHOICES.write_text(text, encoding="utf-8")
        print(f"{CHOICES}: {', '.join(f'{group} is {choice}' for group, choice in chosen.items())} now")


def choice_of(text: str, group: str) -> str:
    """Return the choice that conf/choices.yaml holds for a group."""
    return yaml.safe_load(text)[group]


def with_choice(text: str, group: str, choice: str) -> str:
    """Return the text of conf/choices.yaml with another choice; the comment behind it keeps its column."""

    def rewrite(line: re.Match) -> str:
        return f"{group}: {choice} ".ljust(line.start("comment") - line.start()) + line["comment"]

    return re.sub(rf"^{group}: \S+ *(?P<comment>.*)$", rewrite, text, count=1, flags=re.MULTILINE)


def machine_at_hand() -> str:
    """The file of conf/machine/ that uses what is here."""
    try:
        if subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True).returncode == 0:
            return "gpu"
    except FileNotFoundError:
        pass
    flags = Path("/proc/cpuinfo")
    return "cpu-bf16" if flags.exists() and "_bf16" in flags.read_text(encoding="utf-8") else "cpu"


if __name__ == "__main__":
    main()
