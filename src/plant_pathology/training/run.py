"""Train a run, or continue it: a run is a restartable function of (config, data version, code).

The name of its folder contains a hash of the three. Started again, a finished run returns its result at once, and an
interrupted one continues after its last checkpoint. A run that `python -m plant_pathology.monitor stop` or a rule of
`stop:` ended early counts as finished.
"""

import math
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.ending import explain
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, set_aside
from plant_pathology.core.processes import cpu_count
from plant_pathology.core.schema import check_config
from plant_pathology.core.sealed import read_sealed, write_sealed
from plant_pathology.core.text import one_line
from plant_pathology.runs.finished import (
    DamagedRunError,
    DivergedError,
    divergence_of,
    verified_result,
    write_divergence,
    write_result,
)
from plant_pathology.runs.folder import DIVERGED, FAILURE, RESULT, RUN, record_failure, training_lock
from plant_pathology.runs.resume_points import delete_resume_points, resume_points
from plant_pathology.runs.run import Run, run_of
from plant_pathology.runs.sweep_lists import enter_sweep
from plant_pathology.runs.sync import RunSync, any_file, sync_of
from plant_pathology.training.device_processes import fit_on_devices
from plant_pathology.training.needed_weights import fetch_all_weights, recorded_origin


def train_sweep_member(cfg: DictConfig) -> float | None:
    """Train one run of a sweep and return its score for sweepers: higher is better; NaN if it diverged.

    Without a validation fold it has none. When it fails, write failure.txt and return None: the other runs go on, and
    the sweep ends with an error that lists the failed ones.
    """
    run = run_of(cfg)
    enter_sweep(run.folder)
    try:
        check(cfg)
        return train(run)["val_score"]
    except Exception as error:
        reason = one_line(explain(error) or f"{type(error).__name__}: {error}")
        record_failure(run.folder, reason if isinstance(error, UserError) else f"{traceback.format_exc()}\n{reason}")
        print(f"{run.name}: failed: {reason}", flush=True)
        return math.nan if isinstance(error, DivergedError) else None


def check(cfg: DictConfig) -> None:
    """Check the config before training.

    Raises:
        UserError: a value is out of range, more batches are to be mixed than there are, or a logger's address holds a
            password, which config.yaml would then show.
    """
    check_config(cfg)
    mixup, cutmix = cfg.data.mix.mixup, cfg.data.mix.cutmix
    if mixup + cutmix > 1:
        raise UserError(
            f"data.mix.mixup={mixup:g} and data.mix.cutmix={cutmix:g}: a batch is mixed in one way, so the two shares"
            " are at most 1 together: lower one"
        )
    for key, value in cfg.logger.items():
        if isinstance(value, str) and urlsplit(value).password:
            raise UserError(
                f"logger.{key} holds a password: remove it, and pass it as conf/logger/{cfg.logger.name}.yaml says"
            )


def is_valid(run: Run, dry: bool) -> bool:
    """Return whether the config of a run of a sweep is valid; record a failure if not, except in a dry run."""
    try:
        check(run.cfg)
    except UserError as error:
        if not dry:
            enter_sweep(run.folder)
            record_failure(run.folder, str(error))
        print(f"{run.name}: failed: {error}", flush=True)
        return False
    return True


def train(run: Run) -> dict[str, Any]:
    """Train a run until it has a result, and write result.json, the last file of a run.

    Returns:
        The content of result.json: the run's name and identity, what `fit` returns, what the weights that it started
        from have seen, and the hashes of its files.

    Raises:
        DivergedError: its numbers stopped being finite, now or at an earlier start.
        UserError: a value in the config is wrong, another process trains this run, or its files are of another run.
        SystemExit: on SIGTERM or SIGINT, after saving a checkpoint.
    """
    sync = sync_of(run.cfg)
    if result := existing_result(run, sync):
        return result
    fetch_all_weights([run])
    origin = recorded_origin(run)
    with training_lock(run.folder) as lock:
        # Another process may have finished it while this one waited for the lock.
        if result := existing_result(run):
            return result
        (run.folder / FAILURE).unlink(missing_ok=True)
        threads = write_start_files(run)
        try:
            if run.cfg.trainer.devices > 1:
                measured = fit_on_devices(run, threads, lock)
            else:
                # Imported here, because torch takes seconds, which a finished run need not wait for.
                from plant_pathology.training.preload import fit

                measured = fit(run, threads, sync)
        except UserError as error:
            if isinstance(error, DivergedError):
                write_divergence(run.folder, str(error))
            record_failure(run.folder, str(error))
            raise
        result = {"run": run.name, **run.identity, "data_ref": run.version.ref, **measured, **origin}
        result = write_result(run.folder, result)
        if not result["stopped"]:
            # A finished run needs no checkpoints to continue from; a stopped one may be continued.
            delete_resume_points(run.folder)
    if sync:
        sync.push(run.name)
    print(f"{run.name}: {describe(result)}, {result['seconds']:.0f} s", flush=True)
    return result


def existing_result(
    run: Run, sync: RunSync | None = None, wanted: Callable[[str], bool] = any_file
) -> dict[str, Any] | None:
    """Return the result of a run that was finished before, and print that it was; None for a run that is to be trained.

    Files of a finished run that are not whole are fetched from the store again, or else set aside under another name:
    then the run is trained again.

    Args:
        sync: the store that may have files of the run which are not here; None for no store.
        wanted: which of them to download.

    Raises:
        DivergedError: the run diverged before.
    """
    try:
        result = verified_result(run.folder)
    except DamagedRunError as error:
        # What is only missing may be in the store.
        set_damaged_aside(error, also=() if sync else (RESULT,))
        result = None
    if result is None and sync:
        sync.pull(run.name, wanted)
        return existing_result(run)
    if result:
        print(f"{run.name}: finished before, {describe(result)}", flush=True)
    elif reason := divergence_of(run.folder):
        raise DivergedError(f"{reason}; it would again, unless {run.folder / DIVERGED} is deleted")
    return result


def is_to_train(run: Run) -> bool:
    """Return whether a run of a sweep is neither finished nor diverged; print that it is."""
    try:
        return not existing_result(run, sync_of(run.cfg) if (run.folder / RESULT).exists() else None)
    except DivergedError as error:
        print(f"{run.name}: failed before: {error}", flush=True)
        return False


def set_damaged_aside(error: DamagedRunError, also: tuple[str, ...]) -> None:
    """Set aside the damaged files of a finished run, and `also` these, and print it."""
    with training_lock(error.folder):
        # Another process may have done so meanwhile, and be training it.
        try:
            verified_result(error.folder)
        except DamagedRunError as damaged:
            found = [name for name in dict.fromkeys((*damaged.files, *also)) if (error.folder / name).exists()]
            aside = ", ".join(set_aside(error.folder / name).name for name in found)
            if found:
                print(f"{error.folder.name}: {error.what}: starts again; kept as {aside}", flush=True)


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
    before = read_sealed(path)
    if isinstance(before, dict):
        if any(before.get(key) != value for key, value in run.identity.items()):
            raise UserError(f"{path} is of another run, {before.get('run')}: move the folder {run.folder} away")
        threads = before["threads"]
    elif path.exists():
        # The number of threads is lost, and with it the last digits of what comes after the resume points.
        kept = ", ".join(set_aside(each).name for each in (path, *resume_points(run.folder)))
        print(f"{run.name}: {RUN} {before}: begins again; kept as {kept}", flush=True)
    write_sealed(path, {"run": run.name, "threads": threads, "data_ref": run.version.ref, **run.identity})
    return threads


def describe(result: dict[str, Any]) -> str:
    stopped = f", stopped: {result['stopped']}" if result["stopped"] else ""
    if result["score"] is None:
        return f"trained on all images for {result['epochs']} epochs{stopped}"
    return f"{result['metric']} {result['score']:.4f} at epoch {result['epoch'] + 1}{stopped}"
