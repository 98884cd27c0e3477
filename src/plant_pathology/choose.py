"""Choose the competition to work on: link its folder below data/raw, and write its name to conf/choices.yaml.

Nothing is copied: data/raw/<name> is a symbolic link. The choice is three lines of conf/choices.yaml, so `git diff`
shows it.
"""

import argparse
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from plant_pathology.core.ending import program
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.core.yaml_flow import flow

CHOICES = Path("conf/choices.yaml")
FINETUNE = Path("conf/recipe/finetune.yaml")


@program
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m plant_pathology.choose", description=__doc__)
    parser.add_argument("folder", type=Path, help="the competition's folder, as Kaggle ships it")
    parser.add_argument("competition", nargs="?", help="a file in conf/competition/; default: the folder's name")
    arguments = parser.parse_args()
    folder = arguments.folder.expanduser()  # not every shell does it in RAW=~/folder
    choose(folder, arguments.competition or folder.resolve().name)


def choose(folder: Path, competition: str) -> None:
    """Link the folder, and write the competition, this machine's config and its recipe to conf/choices.yaml.

    A choice of the same competition is kept, also if machine or recipe were edited.

    Raises:
        UserError: the folder or the competition's config does not exist, data/raw/<competition> is a real folder,
            or a line of conf/choices.yaml cannot be changed.
        OSError: the link cannot be made.
    """
    if not folder.is_dir():
        raise UserError(f"RAW={folder}: this folder does not exist")
    known = sorted(path.stem for path in Path("conf/competition").glob("[!.]*.yaml"))
    if competition not in known:
        raise UserError(
            f"conf/competition/{competition}.yaml does not exist: `make competition RAW={folder}` writes a first one,"
            f" or choose COMPETITION=<name> from {', '.join(known)}"
        )
    link = Path("data/raw") / competition
    if link.resolve() != folder.resolve():
        if link.exists() and not link.is_symlink():
            raise UserError(f"{link} already holds files: leave out RAW= to use them, or move them away")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(folder.resolve(), target_is_directory=True)
    text = CHOICES.read_text(encoding="utf-8")
    if choices_in(text).get("competition") != competition:
        machine = detect_machine()
        chosen = {"competition": competition, "machine": machine, "recipe": recipe_for(machine)}
        for group, choice in chosen.items():
            text = with_choice(text, group, choice)
        with atomic_file(CHOICES) as work:
            work.write_text(text, encoding="utf-8")
        print(f"{CHOICES}: " + ", ".join(f"{group}: {choice}" for group, choice in chosen.items()))


def choices_in(text: str) -> dict[str, Any]:
    """Return the choices in the text of conf/choices.yaml; none where it cannot be read."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        content = None
    return content if isinstance(content, dict) else {}


def with_choice(text: str, group: str, choice: str) -> str:
    """Return the text of conf/choices.yaml with another choice; the comment after it stays in its column.

    Raises:
        UserError: the group has no line that can be changed.
    """
    line = f"{group}: {flow(choice)}"

    def rewrite(old: re.Match[str]) -> str:
        return f"{line} ".ljust(old.start("comment") - old.start()) + old["comment"]

    new = re.sub(rf"^{group}: +\S+ *(?P<comment>.*)$", rewrite, text, count=1, flags=re.MULTILINE)
    if choices_in(new) != choices_in(text) | {group: choice}:
        raise UserError(f"{CHOICES}: the choice of {group} cannot be changed there: write the line `{line}` by hand")
    return new


def detect_machine() -> str:
    """Return the file of conf/machine/ for this machine: gpu with an NVIDIA GPU, else cpu-bf16 or cpu.

    bfloat16 instructions (avx512_bf16, amx_bf16) are detected on Linux only.
    """
    try:
        if subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True).returncode == 0:
            return "gpu"
    except FileNotFoundError:
        pass
    cpu = Path("/proc/cpuinfo")
    return "cpu-bf16" if cpu.exists() and "_bf16" in cpu.read_text(encoding="utf-8") else "cpu"


def recipe_for(machine: str) -> str:
    """Return the file of conf/recipe/ for a machine: ours with a GPU, else finetune, or scratch without weights for it.

    finetune's weights are downloaded here, unless the cache of Hugging Face has them.
    """
    if machine == "gpu":
        return "ours"
    from plant_pathology.training.weights import fetch_weights  # timm takes seconds, and a GPU needs no answer

    try:
        fetch_weights(yaml.safe_load(FINETUNE.read_text(encoding="utf-8"))["sweep"]["model"])
    except UserError as error:
        print(f"recipe=scratch, not finetune: {error}")
        return "scratch"
    return "finetune"


if __name__ == "__main__":
    main()
