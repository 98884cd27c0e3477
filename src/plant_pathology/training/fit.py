"""Train and validate one run with Lightning's Trainer, and write its checkpoints and predictions.

This module imports torch, Lightning and timm at the top: other modules import it inside functions, so that commands
that do not train start fast, and a launcher imports it once for many runs (preload.py).
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import Task, task_of
from plant_pathology.core.errors import UserError
from plant_pathology.core.schema import ON_ALL
from plant_pathology.data.predictions import Predictions, write_predictions
from plant_pathology.runs.early_stopping import stop_rules
from plant_pathology.runs.folder import BEST, METRICS, PREDICTIONS
from plant_pathology.runs.history import DataWait, History
from plant_pathology.runs.initial_weights import initial_weights
from plant_pathology.runs.loggers import open_logger
from plant_pathology.runs.resume_points import global_step_of
from plant_pathology.runs.run import Run
from plant_pathology.runs.sync import RunSync
from plant_pathology.training.allocator import keep_freed_memory
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.averaging import WeightAverage
from plant_pathology.training.checkpoints import (
    BestCheckpoint,
    ResumeCheckpoints,
    RunCheckpointIO,
    resume_point_of,
)
from plant_pathology.training.classifier import Classifier
from plant_pathology.training.data import StoredData
from plant_pathology.training.device import ONLY, Device
from plant_pathology.training.mixing import Mixing
from plant_pathology.training.network import Network, create_network
from plant_pathology.training.progressive_resizing import ProgressiveResizing

HARMLESS_WARNINGS = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    # It is: ShuffledBatches continues after any batch.
    ".*dataloader is not resumable.*",
    ".*`srun` command is available.*",
    # All devices log the same numbers: each has them from all.
    ".*It is recommended to use `self.log.*sync_dist=True.*",
)


def fit(run: Run, threads: int, sync: RunSync | None, device: Device = ONLY) -> dict[str, Any]:
    """Train from the run's last checkpoint, or from the beginning, then validate the best epoch's weights.

    Writes best.ckpt, checkpoints/, metrics.csv and validation.npz in the run's folder.

    Args:
        run: the run to train.
        threads: number of torch's CPU threads. With another number, sums are added in another order, and the last
            digits differ.
        sync: uploads checkpoints and metrics in the background; None for no upload.
        device: that this process trains on, of those of the run; the first one's process writes the files.

    Returns:
        metric (its name), score (on the validation fold, by the plain decision, with test-time augmentation over
        `data.views` views; None without one), val_score (the same, higher is better), epoch (the best, or else the
        last, from 0), epochs, seconds,
        images_per_second, data_wait, network (what prediction needs), and stopped (why the run ended early, or None).

    Raises:
        UserError: a value in the config is wrong, or the metric cannot be computed.
        SystemExit: on SIGTERM or SIGINT, after saving a checkpoint.
    """
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero", "timm"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    torch.set_num_threads(threads)
    keep_freed_memory()
    cfg, folder = run.cfg, run.folder
    seed = (cfg.seed + (ON_ALL.index(cfg.data.fold) if cfg.data.fold in ON_ALL else 0)) % 2**32
    pl.seed_everything(seed, verbose=False)
    data = StoredData(
        run.version,
        cfg.data.fold,
        cfg.data.batch_size,
        cfg.data.window,
        cfg.data.workers,
        Augment(**cfg.data.augment),
        seed,
        ProgressiveResizing(**cfg.data.grow, epochs=cfg.trainer.max_epochs),
        OmegaConf.to_container(cfg.data.transforms),  # type: ignore[arg-type]  # a list, as the schema says
        device,
        distill=cfg.model.distill > 0,
    )
    competition, scale = Competition.from_config(cfg), data.manifest["scale"]
    if data.manifest["kind"] != competition.target.kind:
        raise UserError(
            f"{competition.file}: target.kind={competition.target.kind}, but {run.version.ref} was prepared for"
            f" {data.manifest['kind']}: run `dvc repro`"
        )
    task = task_of(competition, data.manifest["labels"], scale)
    network, classifier = create_classifier(cfg, task, scale, data, device)
    classifier.scored = cfg.data.fold not in ON_ALL
    waiting = DataWait()
    history = History(folder / METRICS, task.metric.name, images=len(data.training), title=folder.name, waiting=waiting)
    stops = stop_rules(run, sync)
    upload = partial(sync.push_in_background, run.name) if sync else lambda: None
    saves = ResumeCheckpoints(folder, seed, saved=upload, device=device)
    if (checkpoint := device.from_first(lambda: resume_point_of(run))) and device.is_first:
        print(f"{folder.name}: continues after {checkpoint}", flush=True)
    logs = open_logger(run, global_step_of(checkpoint) if checkpoint else 0)
    with logs if device.is_first else nullcontext(DummyLogger()) as logger:
        average = [WeightAverage(classifier.network, cfg.model.ema)] if cfg.model.ema else []
        callbacks = [history, *stops, *average, BestCheckpoint(folder, classifier.scored), saves]
        trainer = create_trainer(run, logger, waiting, callbacks, device)
        with explained_errors(cfg):
            trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
            classifier.views = cfg.data.views
            trainer.validate(classifier, data, ckpt_path=folder / BEST, weights_only=True, verbose=False)
    classifier.require_finite_weights()
    outputs, true = classifier.validation_results()
    score = task.plain_score(outputs, true) if classifier.scored else None
    if device.is_first:
        names = np.char.decode(data.validation.column("image"), "utf-8")
        write_predictions(folder / PREDICTIONS, Predictions(names, data.manifest["labels"], true, outputs))
    built = {"name": network.architecture, "arguments": network.arguments, "views": cfg.data.views, "scale": scale}
    built |= {"image_size": data.manifest["image_size"], **classifier.normalization}
    stopped = next((rule.reason for rule in stops if rule.reason), None)
    signed = None if score is None else task.metric.sign * score
    scores = {"metric": task.metric.name, "score": score, "val_score": signed}
    return {**scores, **history.summary(), "stopped": stopped, "network": built}


@contextmanager
def explained_errors(cfg: DictConfig) -> Iterator[None]:
    """Turn what torch says about too little memory, batches of one image and processes that load into one line.

    Raises:
        UserError: with the remedy.
    """
    try:
        yield
    except (UserError, OSError) as error:
        text = str(error).strip()
        if "in DataLoader worker process" not in text:
            raise
        # torch repeats the traceback of the process that loads; its last line is the error there.
        raise UserError(text.splitlines()[-1].partition(": ")[2]) from None
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(".")[0]
        raise UserError(f"data.batch_size={cfg.data.batch_size}: {reason}: lower it, or prepare.image_size") from None
    except (RuntimeError, ValueError) as error:
        workers, text = cfg.data.workers, " ".join(str(error).split())
        if "DataLoader worker" in text:
            raise UserError(
                f"data.workers={workers}: a process that loads images was ended ({text}): it takes memory, so lower"
                " data.workers, data.batch_size or hydra.launcher.workers"
            ) from None
        if "more than 1 value per channel" in text:
            raise UserError(
                f"data.batch_size={cfg.data.batch_size}: batch normalization cannot train on one value per channel:"
                " choose at least 2, and with small images a larger data.grow.start"
            ) from None
        if "Expected to have finished reduction" in text:
            raise UserError(
                f"trainer.devices={cfg.trainer.devices}: {cfg.model.name} has weights that the loss does not depend on,"
                " which several devices cannot train: set it to 1"
            ) from None
        raise


def create_trainer(
    run: Run, logger: Logger, waiting: DataWait, callbacks: list[Callback], device: Device
) -> pl.Trainer:
    """Create Lightning's Trainer from the config's `trainer:` section.

    Raises:
        UserError: Lightning does not know a key of `trainer:`, or refuses its value.
    """
    terminal = sys.stderr.isatty() and device.is_first
    several: dict[str, Any] = {}
    if device.count > 1:
        # While the other layers are frozen, their weights have no gradients to average.
        strategy = DDPStrategy(find_unused_parameters=run.cfg.model.freeze > 0)
        several = {"strategy": strategy, "use_distributed_sampler": False}
    try:
        return pl.Trainer(
            **run.cfg.trainer,
            **several,
            callbacks=[*callbacks, *([TQDMProgressBar()] if terminal else [])],
            # A run's processes are started here: within Slurm's or another cluster's, too, they are not its tasks.
            plugins=[RunCheckpointIO(run), LightningEnvironment()],
            profiler=waiting,
            logger=logger,
            default_root_dir=run.folder,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000,  # log per epoch only: logging a step would wait for the GPU
            enable_model_summary=False,
            enable_progress_bar=terminal,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {error}: the keys of trainer: are the arguments of Lightning's Trainer") from None


def create_classifier(
    cfg: DictConfig, task: Task, scale: dict[str, float] | None, data: StoredData, device: Device
) -> tuple[Network, Classifier]:
    """Create the network that `model:` names, for the sides of the data's images.

    Raises:
        UserError: timm has no such network, it takes no images of that size, or its weights cannot be had.
    """
    model = cfg.model.copy()
    model.init_from = str(weights) if (weights := initial_weights(cfg)) else None
    sides = data.training.resizing.sides(data.manifest["image_size"])
    network = create_network(model, task.outputs, sides, data.manifest["labels"])
    return network, Classifier(network.module, task, scale, cfg.model, Mixing(**cfg.data.mix), device)
