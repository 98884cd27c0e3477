"""Stage: one run, or with -m the sweep. A run is a restartable function of (config, data version, code).

Its folder is named after them. Started again, it returns its finished result at once, or continues after the last
checkpoint. A run that `python -m plant_pathology.sweep stop` or a rule of `stop:` ended is finished, too.
"""

import os
import shutil
import traceback
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, read_json, write_json
from plant_pathology.core.schema import check_values
from plant_pathology.runs.run import (
    CHECKPOINTS,
    FAILURE,
    RESULT,
    RUN,
    Run,
    enter_sweep,
    record_failure,
    run_of,
    training_lock,
)
from plant_pathology.runs.sync import any_file, sync_of

CHOICES = {"data.views": (1, 2, 4, 8), "model.schedule": ("step", "epoch")}
RANGES = {
    "seed": (0, 2**32 - 1),
    "threads": (1, 1024),
    "data.batch_size": (1, 65536),
    "data.window": (1, 2**30),
    "data.workers": (0, 1024),
    "data.augment.rotate": (0.0, 180.0),
    "data.augment.brightness": (0.0, 1.0),
    "data.augment.crop": (0.01, 1.0),
    "data.grow.start": (0.1, 1.0),
    "data.grow.until": (0.0, 1.0),
    "model.lr": (0.0, 100.0),
    "model.layer_decay": (0.01, 1.0),
    "model.weight_decay": (0.0, 100.0),
    "model.warmup": (0.0, 0.99),
    "trainer.max_epochs": (1, 1_000_000),
    "stop.divergence": (0.0, 1e9),
    "stop.keep": (0.0, 100.0),
    "stop.siblings": (1, 1_000_000),
    "stop.after": (0.0, 1.0),
}


def train_sweep_member(cfg: DictConfig) -> float | None:
    """One run of a sweep: when it fails, the others go on, and the sweep ends in an error that names it."""
    run = run_of(cfg)
    enter_sweep(run)
    try:
        check(cfg)
        return train(run)["f1"]
    except Exception as error:
        record_failure(run, traceback.format_exc())
        print(f"{run.name}: failed: {error}", flush=True)


def check(cfg: DictConfig) -> None:
    """Raises: UserError on values that cannot be, and on a password, which the run's config.yaml would show."""
    check_values(cfg, CHOICES, RANGES)
    for key, value in cfg.logger.items():
        if isinstance(value, str) and urlsplit(value).password:
            raise UserError(f"logger.{key} holds a password: give it as conf/logger/{cfg.logger.name}.yaml says")


def train(run: Run) -> dict[str, Any]:
    """Train until result.json stands in the run's folder, which is written last.

    Returns:
        The result: metrics, where they were reached, and what they came from.

    Raises:
        UserError: the config describes no training, or another process trains this run.
        SystemExit: on SIGTERM or SIGINT, after a checkpoint.
    """
    sync = sync_of(run.cfg)
    if sync and not run.result():
        sync.pull(run.name, any_file)
    if result := existing_result(run):
        return result
    with training_lock(run.folder):
        # By another process, while this one waited.
        if result := existing_result(run):
            return result
        # Imported here, so that a finished run answers without waiting for torch.
        from plant_pathology.training.preload import fit

        (run.folder / FAILURE).unlink(missing_ok=True)
        threads = start(run)
        result = {"run": run.name, **run.identity, "data_ref": run.version.ref, **fit(run, threads, sync)}
        write_json(run.folder / RESULT, result)
        if not result["stopped"]:
            # Nothing is left to continue.
            shutil.rmtree(run.folder / CHECKPOINTS)
    if sync:
        sync.push(run.name)
    print(f"{run.name}: {described(result)}, {result['seconds']:.0f} s", flush=True)
    return result


def existing_result(run: Run) -> dict[str, Any] | None:
    """The run's result, and says so; None until it is over."""
    if result := run.result():
        print(f"{run.name}: finished before, {described(result)}", flush=True)
    return result


def start(run: Run) -> int:
    """Write down what the run is, and on how many threads it trains, also when it continues."""
    with atomic_file(run.folder / "config.yaml") as path:
        OmegaConf.save(OmegaConf.masked_copy(run.cfg, [key for key in run.cfg if key != "hydra"]), path, resolve=True)
    path = run.folder / RUN
    threads = run.cfg.threads or len(os.sched_getaffinity(0))
    if path.exists():
        threads = read_json(path, f"delete {run.folder} and start again")["threads"]
    write_json(path, {"run": run.name, "threads": threads, "data_ref": run.version.ref, **run.identity})
    return threads


def described(result: dict[str, Any]) -> str:
    stopped = f", stopped: {result['stopped']}" if result["stopped"] else ""
    return f"sample-F1 {result['f1']:.4f} at epoch {result['epoch'] + 1}{stopped}"
