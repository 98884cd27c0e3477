"""List and delete the checkpoints of a run that it can continue from, without importing torch."""

from contextlib import suppress
from pathlib import Path

from plant_pathology.core.files import ASIDE
from plant_pathology.runs.folder import CHECKPOINTS


def resume_points(folder: Path) -> list[Path]:
    """List the checkpoints in a run's folder, latest first."""
    return sorted((folder / CHECKPOINTS).glob("[0-9]*.ckpt"), reverse=True)


def global_step_of(checkpoint: Path) -> int:
    """Return the number of optimizer steps before the checkpoint, which is its file name."""
    return int(checkpoint.stem)


def delete_resume_points(folder: Path) -> None:
    """Delete what a finished run continued from; keep what was set aside."""
    for path in (folder / CHECKPOINTS).glob("*"):
        if ASIDE not in path.name:
            path.unlink()
    with suppress(OSError):  # it holds what was set aside
        (folder / CHECKPOINTS).rmdir()
