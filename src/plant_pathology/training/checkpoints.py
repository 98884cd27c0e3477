"""Save checkpoints from which a run continues to bit-identical results, on this machine or another one."""

import errno
import os
import pickle
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

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, set_aside
from plant_pathology.core.hashes import content_hash
from plant_pathology.runs.folder import BEST, CHECKPOINTS
from plant_pathology.runs.history import History, kept_epoch
from plant_pathology.runs.resume_points import resume_points
from plant_pathology.runs.run import Run
from plant_pathology.training.data import StoredData
from plant_pathology.training.device import ONLY, Device

RUN_KEY = "run"  # in a checkpoint: `identity_of` its run
KEEP = 2  # checkpoints, so that one remains when the last is damaged


class RunCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically, with the identity of their run.

    Lightning's own class writes to the system's temporary folder and moves the file: where that folder is on another
    disk, a kill or a full disk leaves half a checkpoint.

    Args:
        run: the run that is trained.
    """

    def __init__(self, run: Run):
        self.identity = identity_of(run)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint; raise OSError when the disk is full."""
        with atomic_file(Path(path)) as work, work.open("wb") as file:
            try:
                torch.save(checkpoint | {RUN_KEY: self.identity}, file)
            except RuntimeError as error:
                # On a full disk torch raises a RuntimeError that names no cause; its context is the OSError.
                raise error.__context__ or error from None


class BestCheckpoint(ModelCheckpoint):
    """Keep the weights of the epoch with the best val_score as best.ckpt; without validation scores, of the last one.

    They are saved at the end of the validation, while the network holds the weights that were scored (WeightAverage).
    Lightning stores the checkpoint's absolute path; `load_state_dict` replaces it, so that a run may continue in
    another folder, or on another machine. The new path must be written as Lightning writes it, absolute and without
    links: else Lightning takes best.ckpt for the one before, and deletes it after it has saved a better one.
    """

    def __init__(self, folder: Path, scored: bool):
        super().__init__(
            folder,
            "best",
            monitor="val_score" if scored else None,
            mode="max",
            save_weights_only=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["best_model_path"]:
            best = os.path.join(str(self.dirpath), BEST)
            state_dict |= {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best}
            state_dict |= {"best_k_models": {best: state_dict["best_model_score"]}}
            super().load_state_dict(state_dict)


class ResumeCheckpoints(Checkpoint):
    """Save a checkpoint after every epoch, and on SIGTERM or SIGINT after the current batch, then exit.

    A validation in progress is finished first, and the epoch's metrics have reached the logger: Lightning logs them
    after the last hook of an epoch. Torch's random generator is seeded before every step from (seed, step), and on
    each further device from its number, too, so that checkpoints need not hold its state.

    A signal may reach the processes of several devices between different steps: they stop after the same one.

    Args:
        folder: the run's folder.
        seed: the run's seed.
        saved: called after each checkpoint.
        device: that this process trains on.
    """

    def __init__(self, folder: Path, seed: int, saved: Callable[[], object], device: Device = ONLY):
        self.folder, self.seed, self.saved, self.device = folder / CHECKPOINTS, seed, saved, device
        self._signal: signal.Signals | None = None
        self._saved_epoch: int | None = None  # the last epoch that this process finished, from 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Here, because the data loader is made before the checkpoint is read.
        data: StoredData = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        data.start_at(trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        # These replace Lightning's handlers, which end a run in the middle of a validation. It restores all later.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._exit_after_epoch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(self.device.seed(self.seed << 31 | trainer.global_step))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch and (received := self._received()):
            self._save(trainer)
            self._exit(received, f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        self._saved_epoch = trainer.current_epoch + 1

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._exit_after_epoch()

    def _exit_after_epoch(self) -> None:
        if self._saved_epoch and (received := self._received()):
            self._exit(received, f"epoch {self._saved_epoch}")

    def _received(self) -> signal.Signals | None:
        """Return the signal that any of the run's processes received; each asks at the same steps."""
        number = self.device.largest(self._signal or 0)
        return signal.Signals(number) if number else None

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:08d}.ckpt", weights_only=False)
        for old in resume_points(self.folder.parent)[KEEP:] if self.device.is_first else ():
            old.unlink()
        self.saved()

    def _exit(self, received: signal.Signals, where: str) -> None:
        if self.device.is_first:
            print(f"{self.folder.parent.name}: {received.name}: saved after {where}", flush=True)
        raise SystemExit(128 + received)


def resume_point_of(run: Run) -> Path | None:
    """Return the latest checkpoint from which the run can continue; set damaged ones aside, and print it.

    Continuing also needs best.ckpt: without the weights of the best epoch so far, the run begins again.

    Raises:
        UserError: a checkpoint is whole, but of another run, or this version of torch does not load it.
        OSError: a file cannot be read, which says nothing about its content.
    """
    for path in resume_points(run.folder):
        content = read_checkpoint(path, run)
        if isinstance(content, str):
            print(f"{run.name}: {path} is damaged ({content}): kept as {set_aside(path).name}", flush=True)
        elif reason := _missing_best(content, run):
            aside = [set_aside(each) for each in (run.folder / BEST, *resume_points(run.folder)) if each.exists()]
            kept = ", ".join(each.name for each in aside)
            print(f"{run.name}: {BEST} {reason}: begins again; kept as {kept}", flush=True)
            return None
        else:
            return path
    return None


def read_checkpoint(path: Path, run: Run) -> dict[str, Any] | str:
    """Load a checkpoint of a run as data, without running code from it; return what is wrong with one that is damaged.

    Raises:
        UserError: it is whole, but of another run, or this version of torch does not load it.
        OSError: it cannot be read, which says nothing about its content.
    """
    if damage := find_damage(path):
        return damage
    remedy = "nothing was changed; move it away to continue without it"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"{path} is whole, but torch {torch.__version__} does not load it ({reason}): {remedy}"
        ) from None
    if not isinstance(content, dict) or content.get(RUN_KEY) != identity_of(run):
        raise UserError(f"{path} is of another run, trained with other settings, data or code: {remedy}")
    return content


def find_damage(path: Path) -> str | None:
    """Return what is wrong with the bytes of a checkpoint; None when all match their checksums.

    Raises:
        OSError: they cannot be read.
    """
    # torch writes checksums but does not check them.
    try:
        with zipfile.ZipFile(path) as content:
            member = content.testzip()
    except (OSError, MemoryError) as error:
        # A wrong position in the file's table of contents.
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            return str(error)
        raise
    except Exception as error:  # whatever zipfile says about bytes that torch did not write
        return f"{error}"
    return f"{member} does not match its checksum" if member else None


def identity_of(run: Run) -> str:
    """Return the hash of all that decides a run's result, which its checkpoints carry."""
    return content_hash(run.identity)


def _missing_best(content: dict[str, Any], run: Run) -> str | None:
    """Return what is wrong with best.ckpt for a run that continues from a checkpoint; None where nothing is."""
    rows = content["callbacks"][History.__qualname__]["rows"]
    path = run.folder / BEST
    if not rows:
        return None
    if not path.exists():
        return "does not exist"
    best = read_checkpoint(path, run)
    if isinstance(best, str):
        return f"is damaged ({best})"
    # A later epoch's: the run was killed before it saved that epoch, which it will repeat.
    needed = kept_epoch(rows)
    return f"is that of epoch {best['epoch'] + 1}, not {needed + 1}" if best["epoch"] < needed else None
