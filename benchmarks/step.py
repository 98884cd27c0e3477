"""Compare the time of a training epoch with a plain PyTorch loop over the same batches.

    python benchmarks/step.py

Both train the same network with the same optimizer and loader. Ours includes everything of a run: Trainer, metrics,
stop rules, profiler. Validation and checkpoints between epochs are left out. The two take turns.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import cv2
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import DummyLogger

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.task import Task
from plant_pathology.core.checkout import checkout
from plant_pathology.runs.early_stopping import stop_rules
from plant_pathology.runs.history import DataWait, History
from plant_pathology.runs.run import run_of
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.checkpoints import ResumeCheckpoints
from plant_pathology.training.data import StoredData
from plant_pathology.training.device import ONLY
from plant_pathology.training.fit import create_classifier, create_trainer

ROUNDS = 7
SMALL = [
    "competition=sample",
    "machine=cpu",
    "model=resnet18",
    "prepare.image_size=64",
    "trainer.max_epochs=1",
    "data.batch_size=16",
]


def task_for(data: StoredData) -> Task:
    return Task("several", metric_of("sample_f1"), len(data.manifest["labels"]))


class Clock(pl.Callback):
    """Measure the seconds of an epoch's training, including the request for the first batch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: object) -> None:
        self.seconds = perf_counter() - self.started


def ours(cfg: DictConfig, data: StoredData, folder: Path) -> float:
    """Return the seconds of an epoch as a run trains it."""
    waiting, clock = DataWait(), Clock()
    run = run_of(cfg)
    task = task_for(data)
    history = History(folder / "metrics.csv", task.metric.name, len(data.training), "run", waiting)
    points = ResumeCheckpoints(folder, cfg.seed, saved=lambda: None)
    trainer = create_trainer(run, DummyLogger(), waiting, [history, *stop_rules(run, None), points, clock], ONLY)
    trainer.fit(create_classifier(cfg, task, None, data, ONLY)[1], data)
    return clock.seconds


def plain(cfg: DictConfig, data: StoredData) -> float:
    """Return the seconds of an epoch in a plain hand-written loop."""
    classifier = create_classifier(cfg, task_for(data), None, data, ONLY)[1]
    loader = data.train_dataloader()
    classifier.trainer = SimpleNamespace(estimated_stepping_batches=len(loader), precision=cfg.trainer.precision)
    configured = classifier.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    started = perf_counter()
    for batch in batches(data, loader):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(classifier(batch["images"]), batch["targets"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
        schedule.step()
    return perf_counter() - started


def batches(data: StoredData, loader: torch.utils.data.DataLoader) -> Iterator[dict[str, torch.Tensor]]:
    for batch in loader:
        yield data.on_after_batch_transfer(batch, 0)


def measure() -> dict[str, float]:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        for stage in (["sample"], ["prepare"], ["datastore", "push"]):
            command = [sys.executable, "-m", f"plant_pathology.{stage[0]}", *stage[1:], *SMALL]
            subprocess.run(command, cwd=scratch, check=True)
        with initialize_config_dir(str(checkout() / "conf"), version_base="1.3"):
            cfg = compose("config", [*SMALL, f"paths.root={scratch}", f"store.uri=file://{scratch}/store"])
        version = run_of(cfg).version
        data = StoredData(version, 0, cfg.data.batch_size, 16, 0, Augment(**cfg.data.augment), cfg.seed)
        rounds = [(ours(cfg, data, Path(scratch) / "run"), plain(cfg, data)) for _ in range(ROUNDS)]
    ratios = [run / loop for run, loop in rounds]
    print("a run's epoch over a plain loop's:", " ".join(f"{ratio:.3f}" for ratio in ratios))
    return {"step_vs_plain_loop": median(ratios)}


if __name__ == "__main__":
    print(f"{measure()['step_vs_plain_loop']:.3f}")
