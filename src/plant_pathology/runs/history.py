"""What a run measured, epoch by epoch. It lives in the checkpoint, so a run that continues has one seamless table."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import Profiler

from plant_pathology.core.files import atomic_file
from plant_pathology.runs.status import epoch_line


class DataWait(Profiler):
    """Adds up the seconds in which a loop waits for its next batch: loading, augmenting and moving it."""

    ACTIONS = ("train_dataloader_next", "batch_to_device")

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(self.ACTIONS):
            self._started = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(self.ACTIONS):
            self.seconds += time.perf_counter() - self._started


class History(pl.Callback):
    """Writes metrics.csv after every epoch: epoch, train_loss, val_loss, val_f1, val_threshold, lr, seconds,
    images_per_second, data_wait.

    `data_wait` is the share of the training time, validation not counted, that `DataWait` measures.

    Args:
        path: of metrics.csv.
        images: shown by training an epoch.
        title: of the line printed an epoch where no progress bar shows.
        waiting: the trainer's profiler.
    """

    def __init__(self, path: Path, images: int, title: str, waiting: DataWait):
        self.path, self.images, self.title, self.waiting = path, images, title, waiting
        self.rows: list[dict[str, float]] = []
        # Of the epoch under way: what was spent on it before the run broke off.
        self._earlier = {"seconds": 0.0, "trained": 0.0, "waited": 0.0}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An epoch that is continued is not started.
        self._start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._earlier = dict.fromkeys(self._earlier, 0.0)
        self._start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Before the validation, which waits for its own batches.
        self._trained, self._waited = time.monotonic() - self._started, self.waiting.seconds

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
        spent = self._spent()
        seconds = spent["seconds"]
        timing = {
            "seconds": round(seconds, 3),
            "images_per_second": round(self.images / seconds, 1),
            "data_wait": round(spent["waited"] / spent["trained"], 4),
        }
        self.rows.append({"epoch": trainer.current_epoch} | measured | timing)
        with atomic_file(self.path) as work, work.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        if trainer.progress_bar_callback is None:
            print(epoch_line(self.title, self.rows[-1], trainer.max_epochs), flush=True)

    def summary(self) -> dict[str, Any]:
        """Where the best validation was, and what the whole run cost, interruptions not counted."""
        seconds = sum(row["seconds"] for row in self.rows)
        return {
            "epoch": max(self.rows, key=lambda row: row["val_f1"])["epoch"],
            "epochs": len(self.rows),
            "seconds": round(seconds, 3),
            "images_per_second": round(self.images * len(self.rows) / seconds, 1),
            "data_wait": round(sum(row["data_wait"] * row["seconds"] for row in self.rows) / seconds, 4),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "spent": self._spent()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._earlier = state_dict["rows"], state_dict["spent"]

    def _start(self) -> None:
        self._started = time.monotonic()
        self._trained = self.waiting.seconds = self._waited = 0.0

    def _spent(self) -> dict[str, float]:
        now = {"seconds": time.monotonic() - self._started, "trained": self._trained, "waited": self._waited}
        return {key: self._earlier[key] + value for key, value in now.items()}
