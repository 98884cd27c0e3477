"""Read the pipeline from dvc.yaml: its stages in order, what each reads and writes; and let a stage speak of itself."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from plant_pathology.core.checkout import checkout
from plant_pathology.core.durations import last_duration, remember_duration, spoken
from plant_pathology.core.watched import STAGE

PACKAGE = "python -m plant_pathology."
WRITES = ("outs", "metrics", "plots")  # sections of a stage in dvc.yaml


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml.

    Attributes:
        name: as DVC calls it.
        command: the words after `python -m plant_pathology.`, such as ("datastore", "push").
        reads: files and folders that it depends on.
        writes: files and folders that it makes.
    """

    name: str
    command: tuple[str, ...]
    reads: tuple[Path, ...]
    writes: tuple[Path, ...]

    @property
    def typed(self) -> str:
        """The command as a person types it."""
        return PACKAGE + " ".join(word for word in self.command if "=" not in word)

    def follows(self, other: "Stage") -> bool:
        """Return whether this stage reads something that the other one writes."""
        return any(read.is_relative_to(out) for read in self.reads for out in other.writes)


def read_stages() -> list[Stage]:
    """Return the stages in the order of dvc.yaml; none where the package lies outside a checkout."""
    file = checkout() / "dvc.yaml"
    if not file.exists():
        return []
    stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    return [
        Stage(
            name,
            tuple(stage["cmd"].removeprefix(PACKAGE).split()),
            tuple(map(Path, stage["deps"])),
            tuple(Path(_name(each)) for section in WRITES for each in stage.get(section, ())),
        )
        for name, stage in stages.items()
    ]


def _name(entry: str | dict[str, Any]) -> str:
    """Return the path of an output, which dvc.yaml gives alone or with options."""
    return entry if isinstance(entry, str) else next(iter(entry))


@contextmanager
def told(function: str, purpose: str) -> Iterator[None]:
    """Print what a stage will do and how long it took last; after the block what it made, and what comes next.

    Prints nothing for a command that is no stage, nor where a program may read the output: neither in a terminal nor
    within `dvc repro`, which says itself what comes next.

    Args:
        function: name of the command's main function; it is the verb of a command that has several.
        purpose: the first line of the command's documentation.
    """
    in_dvc = STAGE in os.environ
    if not in_dvc and not (sys.stdout and sys.stdout.isatty()):
        yield
        return
    typed = {Path(sys.argv[0]).stem, function, *sys.argv[1:]}
    stages = read_stages()
    here = next((at for at, each in enumerate(stages) if {w for w in each.command if "=" not in w} <= typed), None)
    if here is None:
        yield
        return
    stage, start = stages[here], time.time()
    last = last_duration(stage.name)
    print(f"{stage.name}: {purpose.partition(': ')[2] or purpose}", flush=True)
    if last is not None:
        print(f"{stage.name}: took {spoken(last)} the last time", flush=True)
    yield
    new = [path for path in stage.writes if path.exists() and path.stat().st_mtime >= start]
    made = ", ".join(f"{path} ({tqdm.format_sizeof(size_of(path), 'B')})" for path in new)
    seconds = time.time() - start
    print(f"{stage.name}: {spoken(seconds)}; made {made or 'nothing new'}", flush=True)
    if new:
        remember_duration(stage.name, seconds)
    if not in_dvc and stages[here + 1 :]:
        print(f"next: {stages[here + 1].typed}", flush=True)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
