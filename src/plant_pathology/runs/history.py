"""Record a run's metrics and timing per epoch in metrics.csv.

The table is saved in checkpoints as well, so that a run that continues has one table without gaps or repeated epochs.
"""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import Profiler

from plant_pathology.core.files import atomic_file
from plant_pathology.runs.status import epoch_line


class DataWait(Profiler):
    """Measure how many seconds training waits for batches: until they are loaded, augmented and on the device."""

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


def kept_epoch(rows: Sequence[Mapping[str, float]]) -> float:
    """Return the epoch whose weights a run keeps: the one with the best val_score; without scores, the last one."""
    return max(rows, key=lambda row: row.get("val_score", row["epoch"]))["epoch"]


class History(pl.Callback):
    """Write metrics.csv after every epoch, and print a line where there is no progress bar.

    Columns: epoch (from 0), train_loss, val_loss, val_score (higher is better), val_<metric> (in its own direction),
    lr, seconds, images_per_second, data_wait; val_threshold where labels are chosen by a threshold. A run without a
    validation fold has no column that begins with val_.
    `data_wait` is the share of the training time, without validation, that training waits for batches (`DataWait`).

    Args:
        path: path of metrics.csv.
        metric: name of the competition's metric.
        images: number of training images per epoch.
        title: begins the printed line.
        waiting: the trainer's profiler.
    """

    def __init__(self, path: Path, metric: str, images: int, title: str, waiting: DataWait):
        self.metric = metric
        self.path, self.images, self.title, self.waiting = path, images, title, waiting
        self.rows: list[dict[str, float]] = []
        # Seconds spent on the current epoch before the run was interrupted in it.
        self._earlier = {"seconds": 0.0, "trained": 0.0, "waited": 0.0}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning does not call on_train_epoch_start for an epoch that is continued in the middle.
        self._start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._earlier = dict.fromkeys(self._earlier, 0.0)
        self._start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Measured here, because the validation that follows waits for its own batches.
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
        if not trainer.is_global_zero:  # the first of several devices writes
            return
        with atomic_file(self.path) as work, work.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        if trainer.progress_bar_callback is None:
            print(epoch_line(self.title, self.rows[-1], trainer.max_epochs, self.metric), flush=True)

    def summary(self) -> dict[str, Any]:
        """Return the best epoch, the number of epochs, and the run's whole time, without interruptions."""
        seconds = sum(row["seconds"] for row in self.rows)
        return {
            "epoch": kept_epoch(self.rows),
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
