"""Trust a finished run only while its files are those that it was finished with; and tell a verdict from a failure.

result.json is written last. It holds the SHA-256 of the files that others read, and its own: a run is finished while
all of them are whole, not because a file has that name.

A run whose numbers stop being finite has failed for good, because it would do so again: diverged.json says why. It is
left out and listed, the sweep is complete without it, and it is not trained again.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.sealed import difference, hashes_of, read_sealed, write_sealed
from plant_pathology.runs.folder import BEST, DIVERGED, METRICS, PREDICTIONS, RESULT, RUN

TRUSTED = (BEST, PREDICTIONS, METRICS)
WHAT_FOR = ("config", "data", "code", "weights")  # what a run was trained for, in both files
AGAIN = "start the sweep again (`python -m plant_pathology.train -m`), which trains this run again"


class DamagedRunError(DamagedError):
    """Files of a finished run are not those that it was finished with.

    Attributes:
        folder: the run's folder.
        files: what is wrong with each file, by its name.
    """

    def __init__(self, folder: Path, files: Mapping[str, str]):
        self.folder, self.files = folder, files
        super().__init__(f"{folder}: {self.what}: {AGAIN}")

    @property
    def what(self) -> str:
        """Return what is wrong with all files, in one line."""
        return ", ".join(f"{name} {wrong}" for name, wrong in self.files.items())


class DivergedError(UserError):
    """Numbers of a run are not finite: its loss, its weights, or what it predicts."""


def write_result(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write result.json with the hashes of the files that it vouches for, which makes the run finished.

    Returns:
        What result.json holds.

    Raises:
        FileNotFoundError: one of these files does not exist.
    """
    result = result | {"files": hashes_of(*(folder / name for name in TRUSTED))}
    write_sealed(folder / RESULT, result)
    return result


def verified_result(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's result.json after checking all files that it vouches for; None where it has none.

    Reads every byte of them, about 0.1 s per 100 MB.

    Raises:
        DamagedRunError: a file is missing, cut, overwritten or empty, or belongs to another run.
        OSError: a file cannot be read, which says nothing about its content.
    """
    if not (folder / RESULT).exists():
        return None
    result, run = read_sealed(folder / RESULT), read_sealed(folder / RUN)
    if wrong := {name: each for name, each in ((RESULT, result), (RUN, run)) if isinstance(each, str)}:
        raise DamagedRunError(folder, wrong)
    assert isinstance(result, dict) and isinstance(run, dict)
    if result.get("run") != folder.name or any(result.get(key) != run.get(key) for key in WHAT_FOR):
        wrong = {RESULT: f"belongs to {result.get('run')}, trained with other settings, data or code"}
        raise DamagedRunError(folder, wrong)
    for name in TRUSTED:
        if reason := difference(folder / name, result["files"][name], "the run wrote"):
            wrong[name] = reason
    if wrong:
        raise DamagedRunError(folder, wrong)
    return result


def write_divergence(folder: Path, reason: str) -> None:
    """Record that a run diverged, in diverged.json."""
    write_sealed(folder / DIVERGED, {"run": folder.name, "reason": reason})


def divergence_of(folder: Path) -> str | None:
    """Return why a run diverged; None where it did not, or where that record is damaged: then it is trained again."""
    content = read_sealed(folder / DIVERGED)
    return None if isinstance(content, str) else str(content["reason"])


def has_ended(folder: Path) -> bool:
    """Return whether a run has a result or diverged, so that it is not trained again."""
    return isinstance(read_sealed(folder / RESULT), dict) or divergence_of(folder) is not None


def score_of(folder: Path) -> float | None:
    """Return a run's score for sweepers, higher is better; NaN if it diverged, None without result or validation."""
    result = read_sealed(folder / RESULT)
    if isinstance(result, dict):
        return result.get("val_score")
    return math.nan if divergence_of(folder) else None
