"""Read and write what a run's folder holds beside its checkpoints, and lock the folder while the run trains.

Files in the folder:
    run.json: the run's identity (config, data, code, weights that it starts from).
    metrics.csv: one row per finished epoch.
    checkpoints/: to continue from. best.ckpt: the best epoch's weights.
    result.json: written last; a run with this file is finished, if its files are whole (finished.py).
    failure.txt: why it failed. diverged.json: its numbers stopped being finite, as they would again.
    stop: a user asked it to stop. continue: stopping rules are off.
    job.json: the machine that trains it, written by the launcher.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from plant_pathology.core.disk import require_locks
from plant_pathology.core.errors import BusyError, DamagedError
from plant_pathology.core.files import atomic_file, is_own, read_json

NEEDED = {"epoch", "train_loss", "seconds"}  # columns of metrics.csv that are there whatever is trained
RUN, METRICS, CHECKPOINTS, RESULT = "run.json", "metrics.csv", "checkpoints", "result.json"
BEST, PREDICTIONS = "best.ckpt", "validation.npz"
HASH_DIGITS = 8  # hexadecimal, at the end of a run's name
FAILURE, DIVERGED, STOP, CONTINUE, JOB = "failure.txt", "diverged.json", "stop", "continue", "job.json"


def fold_suffix(fold: int | str) -> str:
    """Return what the name of a run's folder has before its hash.

    Nothing for fold 0: a run from before `train.folds` was raised keeps its name and is not trained again.
    """
    return f"-fold{fold}" if fold else ""


def without_fold(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's config as all folds have it."""
    return config | {"data": config["data"] | {"fold": None}}


def is_finished(folder: Path) -> bool:
    """Return whether a run's folder has a result and the best epoch's weights."""
    return (folder / RESULT).is_file() and (folder / BEST).is_file()


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


def record_failure(folder: Path, cause: str) -> None:
    """Write failure.txt; its last line is shown in lists of failed runs."""
    with atomic_file(folder / FAILURE) as path:
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
