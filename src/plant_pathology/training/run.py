"""Train a run, or continue it: a run is a restartable function of (config, data version, code).

The name of its folder contains a hash of the three. Started again, a finished run returns its result at once, and an
interrupted one continues after its last checkpoint. A run that `python -m plant_pathology.monitor stop` or a rule of
`stop:` ended early counts as finished.
"""

import shutil
import traceback
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, read_json, write_json
from plant_pathology.core.processes import cpu_count
from plant_pathology.core.schema import check_config
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


def train_sweep_member(cfg: DictConfig) -> float | None:
    """Train one run of a sweep and return its score for sweepers.

    When it fails, write failure.txt and return None: the other runs go on, and the sweep ends with an error that lists
    the failed ones.
    """
    run = run_of(cfg)
    enter_sweep(run)
    try:
        check(cfg)
        return train(run)["val_score"]
    except Exception as error:
        record_failure(run, traceback.format_exc())
        print(f"{run.name}: failed: {error}", flush=True)
        return None


def check(cfg: DictConfig) -> None:
    """Check the config before training.

    Raises:
        UserError: a value is out of range, or a logger's address holds a password, which config.yaml would then show.
    """
    check_config(cfg)
    for key, value in cfg.logger.items():
        if isinstance(value, str) and urlsplit(value).password:
            raise UserError(
                f"logger.{key} holds a password: remove it, and pass it as conf/logger/{cfg.logger.name}.yaml says"
            )


def train(run: Run) -> dict[str, Any]:
    """Train a run until it has a result, and write result.json, the last file of a run.

    Returns:
        The content of result.json: the run's name and identity, and what `fit` returns.

    Raises:
        UserError: a value in the config is wrong, or another process trains this run.
        SystemExit: on SIGTERM or SIGINT, after saving a checkpoint.
    """
    sync = sync_of(run.cfg)
    if sync and not run.result():
        sync.pull(run.name, any_file)
    if result := existing_result(run):
        return result
    with training_lock(run.folder):
        # Another process may have finished it while this one waited for the lock.
        if result := existing_result(run):
            return result
        # Imported here, because torch takes seconds, which a finished run need not wait for.
        from plant_pathology.training.preload import fit

        (run.folder / FAILURE).unlink(missing_ok=True)
        threads = write_start_files(run)
        result = {"run": run.name, **run.identity, "data_ref": run.version.ref, **fit(run, threads, sync)}
        write_json(run.folder / RESULT, result)
        if not result["stopped"]:
            # A finished run needs no checkpoints to continue from; a stopped one may be continued.
            shutil.rmtree(run.folder / CHECKPOINTS)
    if sync:
        sync.push(run.name)
    print(f"{run.name}: {describe(result)}, {result['seconds']:.0f} s", flush=True)
    return result


def existing_result(run: Run) -> dict[str, Any] | None:
    """Return the result of a finished run, and print that it was finished before; None for an unfinished run."""
    if result := run.result():
        print(f"{run.name}: finished before, {describe(result)}", flush=True)
    return result


def write_start_files(run: Run) -> int:
    """Write config.yaml and run.json, and return the number of threads to train with.

    A continued run keeps the number that it started with, because that decides the last digits of its results.
    """
    with atomic_file(run.folder / "config.yaml") as path:
        OmegaConf.save(
            OmegaConf.masked_copy(run.cfg, [str(key) for key in run.cfg if key != "hydra"]), path, resolve=True
        )
    path = run.folder / RUN
    threads = run.cfg.threads or cpu_count()
    if path.exists():
        threads = read_json(path, f"delete {run.folder} and train again")["threads"]
    write_json(path, {"run": run.name, "threads": threads, "data_ref": run.version.ref, **run.identity})
    return threads


def describe(result: dict[str, Any]) -> str:
    stopped = f", stopped: {result['stopped']}" if result["stopped"] else ""
    return f"{result['metric']} {result['score']:.4f} at epoch {result['epoch'] + 1}{stopped}"
