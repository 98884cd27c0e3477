"""Save checkpoints from which a run continues to bit-identical results, on this machine or another one."""

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
from plant_pathology.training.data import StoredData

KEEP = 2  # checkpoints, so that one remains when the last is damaged


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically.

    Lightning's own class writes to the system's temporary folder and moves the file: where that folder is on another
    disk, a kill or a full disk leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint; raise OSError when the disk is full."""
        with atomic_file(Path(path)) as work, work.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # On a full disk torch raises a RuntimeError that names no cause; its context is the OSError.
                raise error.__context__ or error from None


class BestCheckpoint(ModelCheckpoint):
    """Keep the weights of the epoch with the best val_score as best.ckpt.

    Lightning stores the checkpoint's absolute path; `load_state_dict` replaces it, so that a run may continue in
    another folder, or on another machine.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        super().__init__(
            folder, "best", monitor="val_score", mode="max", save_weights_only=True, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["best_model_path"]:
            best = str(self.folder / "best.ckpt")
            state_dict |= {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best}
            state_dict |= {"best_k_models": {best: state_dict["best_model_score"]}}
            super().load_state_dict(state_dict)


class ResumeCheckpoints(Checkpoint):
    """Save a checkpoint after every epoch, and on SIGTERM or SIGINT after the current batch, then exit.

    A validation in progress is finished first. Torch's random generator is seeded before every step from (seed, step),
    so that checkpoints need not hold its state.

    Args:
        folder: the run's folder.
        seed: the run's seed.
        saved: called after each checkpoint.
    """

    def __init__(self, folder: Path, seed: int, saved: Callable[[], object]):
        self.folder, self.seed, self.saved = folder / CHECKPOINTS, seed, saved
        self._signal: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Here, because the data loader is made before the checkpoint is read.
        data: StoredData = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        data.start_at(trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        # These replace Lightning's handlers, which end a run in the middle of a validation. It restores all later.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(self.seed << 31 | trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._signal and not trainer.is_last_batch:
            self._save(trainer)
            self._exit(self._signal, f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        if self._signal:
            self._exit(self._signal, f"epoch {trainer.current_epoch + 1}")

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:08d}.ckpt", weights_only=False)
        for old in resume_checkpoints(self.folder.parent)[KEEP:]:
            old.unlink()
        self.saved()

    def _exit(self, received: signal.Signals, where: str) -> None:
        print(f"{self.folder.parent.name}: {received.name}: saved after {where}", flush=True)
        raise SystemExit(128 + received)


def resume_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a run's folder, latest first."""
    return sorted((folder / CHECKPOINTS).glob("[0-9]*.ckpt"), reverse=True)


def global_step_of(checkpoint: Path) -> int:
    """Return the number of optimizer steps before the checkpoint, which is its file name."""
    return int(checkpoint.stem)


def latest_intact(folder: Path) -> Path | None:
    """Return the latest undamaged checkpoint of a run's folder; report and delete damaged ones."""
    for path in resume_checkpoints(folder):
        damage = find_damage(path)
        if damage is None:
            return path
        print(f"{folder.name}: {path} is damaged ({damage}): continues from the checkpoint before it, if there is one")
        path.unlink()
    return None


def find_damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint; None when it is complete and loads without running code from it."""
    try:
        # torch writes checksums but does not check them.
        with zipfile.ZipFile(path) as content:
            if member := content.testzip():
                return f"{member} does not match its checksum"
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
