"""Runs on disk: a folder each, named after all that decides its result.

A run's folder holds run.json (what it is), metrics.csv (an epoch a row), checkpoints, and once it is over result.json,
which is written last. failure.txt tells why it broke off, stop that somebody asked it to, continue that no rule may.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, read_json
from plant_pathology.core.hashes import content_hash, file_hash
from plant_pathology.store.connect import open_version
from plant_pathology.store.versions import Version

IDENTITY = ("seed", "competition", "data", "model", "trainer")
# The code that decides a run's digits: the room that trains, and the files that it uses of other rooms.
CODE = (
    *("training", "competition/metrics.py", "data/index.py", "data/shards.py"),
    *("inference/decision.py", "inference/expected_f1.py", "inference/tta.py"),
)
RUN, METRICS, CHECKPOINTS, RESULT = "run.json", "metrics.csv", "checkpoints", "result.json"
FAILURE, STOP, CONTINUE, JOB = "failure.txt", "stop", "continue", "job.json"
SWEEP = ".sweep"  # an empty file for every run of the sweep under way


@dataclass(frozen=True)
class Run:
    """What is to be trained, and where.

    Args:
        identity: config, data by content and code by content.
        folder: below paths.runs.
    """

    cfg: DictConfig
    version: Version
    identity: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """The config's `name` for people, and eight digits that tell every identity apart."""
        return self.folder.name

    def result(self) -> dict[str, Any] | None:
        """None until the run is over."""
        path = self.folder / RESULT
        return read_json(path, f"delete {self.folder} and start again") if path.exists() else None


def run_of(cfg: DictConfig) -> Run:
    """The run that a config describes.

    Raises:
        UserError: there is no such version of the data.
    """
    version = open_version(cfg)
    config = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(IDENTITY)), resolve=True)
    for key in ("ref", "workers"):
        del config["data"][key]
    identity = {"config": config, "data": version.sha256, "code": code_hash()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    # Fold 0 is called as it would be without folds, so that training more of them keeps it.
    fold = f"-fold{cfg.data.fold}" if cfg.data.fold else ""
    return Run(cfg, version, identity, Path(cfg.paths.runs) / f"{cfg.name}{fold}-{digest}")


def code_hash() -> str:
    """Return one SHA-256 of the names and contents of all modules in CODE."""
    package = Path(__file__).parents[1]
    modules = sorted(
        path for part in CODE for path in (package / part, *(package / part).rglob("*.py")) if path.is_file()
    )
    return content_hash({path.relative_to(package).as_posix(): file_hash(path) for path in modules})


@contextmanager
def training_lock(folder: Path, patience: float = 10) -> Iterator[None]:
    """Be the one process that trains in `folder`; over when the process dies, however it dies.

    Args:
        patience: seconds to wait for another one, which may be saving its checkpoint.

    Raises:
        UserError: another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Not at once: whoever looks whether a run is in training holds the lock for a moment.
        with FileLock(folder / ".lock", timeout=patience):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process trains this run: wait for it, or end it") from None


def is_locked(folder: Path) -> bool:
    try:
        with training_lock(folder, patience=0):
            return False
    except UserError:
        return True


def record_failure(run: Run, cause: str) -> None:
    """Leave in the run's folder why there is no result; the last line is what lists of failures show."""
    with atomic_file(run.folder / FAILURE) as path:
        path.write_text(f"{cause.rstrip()}\n")


def job_of(folder: Path) -> dict[str, Any]:
    """What the launcher keeps of the run's machine and job; empty where no launcher started it."""
    path = folder / JOB
    return read_json(path, f"delete {path}") if path.exists() else {}


def enter_sweep(run: Run) -> None:
    """Note that the run belongs to the sweep under way, from whichever process runs it."""
    entry = run.folder.parent / SWEEP / run.name
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.touch()


def epochs(folder: Path) -> list[dict[str, float]]:
    """What a run measured, an epoch each; none before the first."""
    try:
        with (folder / METRICS).open() as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
