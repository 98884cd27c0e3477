"""Bring what a session wrote back into the run folders here, also that of one that failed or was cancelled."""

import shutil
from pathlib import Path

from plant_pathology.core.files import atomic_file, is_hidden
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.runs.folder import CHECKPOINTS, DIVERGED, FAILURE, JOB, RESULT, STOP, training_lock
from plant_pathology.runs.resume_points import delete_resume_points, resume_points
from plant_pathology.store.keys import check_file

NOT_TAKEN = (JOB, STOP)  # which this machine writes


def download(kaggle: Kaggle, files: dict[str, str], runs: list[str], folder: Path) -> None:
    """Download the files of these runs, of which an earlier start may have some.

    Args:
        files: URL by name, of a kernel's output.
        folder: for one folder per run.
    """
    for name, url in sorted(files.items()):
        parts = Path(name).parts
        if len(parts) < 3 or parts[0] != "runs" or parts[1] not in runs or is_hidden(parts):
            continue
        check_file(name)
        path = folder.joinpath(*parts[1:])
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            kaggle.download(url, path)


def merge(collected: Path, folder: Path) -> None:
    """Replace what a run's folder holds by what a session made of it, unless that is less than is here.

    Args:
        collected: the run's folder as downloaded, which may not exist.
        folder: the run's folder here.
    """
    if not collected.is_dir() or (folder / RESULT).exists():
        return
    with training_lock(folder):
        if not is_further(collected, latest_point(folder)):
            return
        files = [path.relative_to(collected) for path in collected.rglob("*") if path.is_file()]
        for file in sorted(files, key=lambda file: (file.name == RESULT, file)):
            if file.name not in NOT_TAKEN:
                with atomic_file(folder / file) as work:
                    shutil.copyfile(collected / file, work)
        if not (collected / FAILURE).exists():
            (folder / FAILURE).unlink(missing_ok=True)
        for path in resume_points(folder):
            if not (collected / CHECKPOINTS / path.name).exists():
                path.unlink()
        if (folder / RESULT).exists() and not resume_points(collected):
            delete_resume_points(folder)


def latest_point(folder: Path) -> str:
    """Return the name of the last checkpoint that a run can continue from; "" where it has none."""
    return max((path.name for path in resume_points(folder)), default="")


def is_further(folder: Path, before: str) -> bool:
    """Return whether a run has ended, or has a later checkpoint than `before`."""
    return any((folder / name).exists() for name in (RESULT, DIVERGED, FAILURE)) or latest_point(folder) > before
