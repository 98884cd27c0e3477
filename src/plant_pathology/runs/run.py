"""Describe a run on disk: one folder per run, whose name ends in a hash of everything that decides its result.

Files in the folder:
    run.json: the run's identity (config, data, code).
    metrics.csv: one row per finished epoch.
    checkpoints/: to continue from. best.ckpt: the best epoch's weights.
    result.json: written last; a run with this file is finished, if its files are whole (finished.py).
    failure.txt: why it failed. diverged.json: its numbers stopped being finite, as they would again.
    stop: a user asked it to stop. continue: stopping rules are off.
    job.json: the machine that trains it, written by the launcher.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.disk import require_locks
from plant_pathology.core.errors import BusyError, DamagedError, UserError
from plant_pathology.core.files import atomic_file, is_own, read_json, visible_files
from plant_pathology.core.hashes import content_hash, file_hash, folder_hash
from plant_pathology.store.connect import open_training_version
from plant_pathology.store.version import Version

NEEDED = {"epoch", "train_loss", "seconds"}  # columns of metrics.csv that are there whatever is trained
IDENTITY = ("seed", "data", "model", "trainer")  # of the competition, what `run_of` adds
# Keys of `competition.submit:` that decide a score: whether a row may be empty, which label counts, limits of numbers.
SCORED = ("as", "positive", "low", "high")
# The code that decides a run's numbers: the folder `training`, and the files of other folders that it uses.
CODE = (
    *("training", "competition/metrics.py", "competition/task.py"),
    *("data/index.py", "data/predictions.py", "data/shards.py"),
    *("inference/decision.py", "inference/expected_f1.py", "inference/outputs.py", "inference/tta.py"),
)
RUN, METRICS, CHECKPOINTS, RESULT = "run.json", "metrics.csv", "checkpoints", "result.json"
BEST, PREDICTIONS = "best.ckpt", "validation.npz"
LOCAL, HUB = "local-dir:", "hf-hub:"  # begin the names of networks in a folder, and of Hugging Face's repositories
FAILURE, DIVERGED, STOP, CONTINUE, JOB = "failure.txt", "diverged.json", "stop", "continue", "job.json"


@dataclass(frozen=True)
class Run:
    """Hold what to train, and where.

    Args:
        cfg: the whole config.
        version: the data to train on.
        identity: what decides the result: parts of the config, and hashes of data and code.
        folder: the run's folder below `paths.runs`.
    """

    cfg: DictConfig
    version: Version
    identity: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """Return the folder's name: the config's `name`, and eight hexadecimal digits of the identity's hash."""
        return self.folder.name


def run_of(cfg: DictConfig) -> Run:
    """Return the run that a config describes.

    Raises:
        UserError: the datastore has no such version of the data.
    """
    version = open_training_version(cfg)
    config: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(IDENTITY)), resolve=True)
    for key in ("ref", "workers"):
        del config["data"][key]
    # Read from the config, because importing pandas to describe a competition takes longer than all else here.
    competition = cfg.competition
    if weights := initial_weights(cfg):
        config["model"]["init_from"] = file_hash(weights)
    if cfg.model.name.startswith(LOCAL) and (folder := Path(cfg.model.name.removeprefix(LOCAL))).is_dir():
        config["model"]["folder"] = folder_hash(folder)
    config["competition"] = {
        "name": competition.name,
        "metric": competition.metric,
        "kind": competition.target.kind,
        **{key: competition.submit.get(key) for key in SCORED},
    }
    own = Path(cfg.paths.code) / f"{competition.name}.py"
    identity = {"config": config, "data": version.sha256, "code": code_hash(own if own.exists() else None)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    # Fold 0 has no suffix: a run from before `train.folds` was raised keeps its name and is not trained again.
    fold = f"-fold{cfg.data.fold}" if cfg.data.fold else ""
    # A model's name may hold an address or a path, such as hf-hub:timm/resnet18.
    name = re.sub(r'[/\\:@*?"<>|]+', "-", cfg.name)
    return Run(cfg, version, identity, Path(cfg.paths.runs) / f"{name}{fold}-{digest}")


def devices_of(run: Run) -> int:
    """Return how many devices a run trains on; 1 where the config's value is wrong, which its start says."""
    devices = run.cfg.trainer.devices
    return devices if isinstance(devices, int) and devices > 0 else 1


def initial_weights(cfg: DictConfig) -> Path | None:
    """Return the file that `model.init_from` means: a file, the folder of a finished run, or a run of paths.runs.

    With store.runs=true a run that is not here is fetched from the store. The run's identity has the hash of the file,
    not its name.

    Raises:
        UserError: there is no such file, and no such finished run.
    """
    if not (named := cfg.model.init_from):
        return None
    if Path(named).is_file():
        return Path(named)
    here = Path(cfg.paths.runs) / named
    for folder in (here, Path(named)):
        if is_finished(folder):
            return folder / BEST
    elsewhere = ""
    if cfg.store.runs and Path(named).name == named:
        from plant_pathology.runs.sync import is_output, sync_of  # here, because it imports this module

        sync = sync_of(cfg)
        assert sync is not None, "store.runs is true"
        if sync.has(named, RESULT):
            sync.pull(named, is_output)
        if is_finished(here):
            return here / BEST
        elsewhere = f", nor is there one of that name in {cfg.store.uri}"
    raise UserError(f"model.init_from={named} is no file, and {here} no finished run{elsewhere}")


def is_finished(folder: Path) -> bool:
    """Return whether a run's folder has a result and the best epoch's weights."""
    return (folder / RESULT).is_file() and (folder / BEST).is_file()


def code_hash(own: Path | None) -> str:
    """Return one SHA-256 of the names and contents of all modules in CODE, and of the competition's own code."""
    package = Path(__file__).parents[1]
    parts = [package / part for part in CODE]
    modules = sorted(path for part in parts for path in ([part] if part.is_file() else visible_files(part, "*.py")))
    hashes = {path.relative_to(package).as_posix(): file_hash(path) for path in modules}
    return content_hash(hashes | ({own.name: file_hash(own)} if own else {}))


@contextmanager
def training_lock(folder: Path, timeout: float = 10) -> Iterator[BaseFileLock]:
    """Hold the run's lock, and yield it: only one start of a run may train in `folder`.

    The operating system releases the lock when the process dies, however it dies. A file that DVC linked is never used
    as the lock: all empty files of DVC's cache are one.

    Args:
        folder: the run's folder, which need not exist.
        timeout: seconds to wait for the lock: another process may be saving its last checkpoint, and `is_locked` holds
            the lock for a moment.

    Raises:
        BusyError: another process holds the lock.
        UserError: the disk has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_locks(folder)
    try:
        with FileLock(lock_of(folder), timeout=timeout) as lock:
            yield lock
    except Timeout:
        raise BusyError(
            f"{folder}: another process trains this run: wait until it ends, or stop it; if it was on a machine that is"
            f" gone, delete {lock_of(folder)}"
        ) from None


def is_locked(folder: Path) -> bool:
    """Return whether a process on this machine trains the run; False where this disk does not say."""
    if not (lock := lock_of(folder)).exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that this user may only read, or a disk without locks
        return False


def lock_of(folder: Path) -> Path:
    """Return the file that is locked while a run trains: the first of two names that DVC has not linked."""
    own = folder / ".lock-own"
    lock = folder / ".lock"
    return lock if not os.path.lexists(lock) or is_own(lock) else own


def record_failure(run: Run, cause: str) -> None:
    """Write failure.txt; its last line is shown in lists of failed runs."""
    with atomic_file(run.folder / FAILURE) as path:
        path.write_text(f"{cause.rstrip()}\n", encoding="utf-8")


def job_of(folder: Path) -> dict[str, Any]:
    """Return the content of job.json; empty where no launcher started the run."""
    path = folder / JOB
    return read_json(path, f"delete {path}") if path.exists() else {}


def read_epochs(folder: Path) -> list[dict[str, float]]:
    """Read metrics.csv: one row per finished epoch; an empty list before the first.

    Raises:
        DamagedError: it is not the table that a run writes.
    """
    path = folder / METRICS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file, strict=True)]
        if any(NEEDED - row.keys() for row in rows):
            raise ValueError(f"a column is missing, of {', '.join(sorted(NEEDED))}")
        return rows
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, csv.Error) as error:
        raise DamagedError(f"{path} is damaged ({error}): start the sweep again") from None
