"""Checkpoints from which a run continues to the same digits, on this machine or another one."""

import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from plant_pathology.core.files import atomic_file
from plant_pathology.runs.run import CHECKPOINTS

KEEP = 2  # so that there is one when the last is damaged


class AtomicCheckpointIO(TorchCheckpointIO):
    """As Lightning's own, which goes by way of the system's temporary folder: where that is on another disk, a kill or
    a full disk leaves half a checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises: OSError when the disk is full."""
        with atomic_file(Path(path)) as work, work.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # Torch's error of a full disk says neither; the disk's own is behind it.
                raise error.__context__ or error from None


class BestCheckpoint(ModelCheckpoint):
    """The weights with the best val_f1, also of a run that continues in another folder than it began in."""

    def __init__(self, folder: Path):
        super().__init__(
            folder, "best", monitor="val_f1", mode="max", save_weights_only=True, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["best_model_path"]:
            best = str(Path(self.dirpath) / "best.ckpt")
            state_dict |= {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best}
            state_dict |= {"best_k_models": {best: state_dict["best_model_score"]}}
            super().load_state_dict(state_dict)


class ResumeCheckpoints(Checkpoint):
    """A checkpoint after every epoch, and on SIGTERM or SIGINT after the batch under way, which then ends the run.

    A validation under way is finished first. Randomness on the device is drawn anew for every step from (seed, step),
    so that a checkpoint need not hold it.

    Args:
        folder: of the run.
        saved: called after each checkpoint.
    """

    def __init__(self, folder: Path, seed: int, saved: Callable[[], None]):
        self.folder, self.seed, self.saved = folder / CHECKPOINTS, seed, saved
        self._signal: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not when the loader is made, which is before the checkpoint is read.
        trainer.datamodule.begin(trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        # In place of Lightning's own handler, which ends the run in the midst of a validation. It restores all later.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(self.seed << 31 | trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._signal and not trainer.is_last_batch:
            self._save(trainer)
            self._end(trainer, f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        if self._signal:
            self._end(trainer, f"epoch {trainer.current_epoch + 1}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:08d}.ckpt", weights_only=False)
        for old in resume_checkpoints(self.folder.parent)[KEEP:]:
            old.unlink()
        self.saved()

    def _end(self, trainer: pl.Trainer, where: str) -> None:
        print(f"{self.folder.parent.name}: {signal.Signals(self._signal).name}: saved after {where}", flush=True)
        raise SystemExit(128 + self._signal)


def resume_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, latest first."""
    return sorted((folder / CHECKPOINTS).glob("[0-9]*.ckpt"), reverse=True)


def global_step_of(point: Path) -> int:
    """How many optimizer's steps were done when it was written."""
    return int(point.stem)


def latest_intact(folder: Path) -> Path | None:
    """The latest checkpoint that is what was written, and says so where it is not the latest there is."""
    points = resume_checkpoints(folder)
    for path in points:
        if damage := find_damage(path):
            print(f"{folder.name}: {path} is damaged ({damage}): continues from the one before, if there is one")
            path.unlink()
        else:
            return path
    return None


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it is whole and holds nothing but data."""
    try:
        # Torch doesn't look at the check sums that it writes.
        with zipfile.ZipFile(path) as content:
            if member := content.testzip():
                return f"{member} does not match its check sum"
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
