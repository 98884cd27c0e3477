"""Train the runs of a sweep on rented machines: hydra/launcher=sky submits one managed job of SkyPilot per run.

What recovers a preempted run: SkyPilot's managed jobs start another machine and restart the job; its command, the same
`train` as before, continues from the checkpoint in the store. Nothing here restarts anything.

    options.py: the keys of hydra.launcher.
    launch.py: check what can be checked here, before machines cost money.
    task.py: describe a job: code, setup, command, and the exit codes after which SkyPilot restarts it.
    follow.py: submit the jobs, follow them, fetch results; started again, find the jobs of an earlier start.
    client.py: calls of SkyPilot's API.

Checkpoints are saved on SIGTERM and after each epoch by training/checkpoints.py, copied by runs/sync.py, and continued
from by training/run.py.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.runs.cost import Machine
from plant_pathology.runs.finished import score_of
from plant_pathology.runs.run import Run, devices_of, run_of
from plant_pathology.runs.sync import RunSync
from plant_pathology.store.connect import open_store
from plant_pathology.sweeps.sky.client import SkyClient, skypilot
from plant_pathology.sweeps.sky.follow import JobFollower
from plant_pathology.sweeps.sky.options import SkyOptions
from plant_pathology.sweeps.sky.task import (
    check_committed,
    check_store,
    export_commit,
    overrides_of,
    task_of,
    task_yaml,
)
from plant_pathology.training.needed_weights import require_weights_elsewhere
from plant_pathology.training.run import is_valid


def train_on_sky(configs: list[DictConfig], options: SkyOptions) -> list[float | None]:
    """Train runs as managed jobs, and wait until all have ended.

    A run that fails leaves a failure.txt and does not stop the others.

    Args:
        configs: one per run, with Hydra's own section, which holds the overrides.

    Returns:
        Score of each run, as `score_of`.

    Raises:
        UserError: a config has no data to train on; the code is not committed; the machines could not read the store,
            or a run's weights, or have fewer GPUs than a run needs; SkyPilot is not installed.
        SystemExit: after a dry run.
    """
    cfg = configs[0]
    if cfg.hydra.job.name != "train":
        raise UserError(f"hydra/launcher=sky: only `train` can use it, not `{cfg.hydra.job.name}`: leave it out")
    skypilot()
    check_store(cfg, options)
    head = check_committed(checkout(), options.allow_uncommitted)
    runs = [_run(config) for config in configs]
    valid = {run.name: run for run in runs if is_valid(run, options.dry_run)}
    folder = Path(cfg.paths.runs)
    sync = RunSync(open_store(cfg).backend, folder)
    require_weights_elsewhere(valid.values(), "sky", sync)
    require_gpus(valid.values(), options)
    code = export_commit(checkout(), head, folder)

    def task(run: Run) -> Any:
        hydra = run.cfg.hydra
        overrides = overrides_of(run, list(hydra.overrides.task), hydra.runtime.choices.store)
        return task_of(run, overrides, options, code)

    if options.accelerators and cfg.trainer.accelerator == "cpu":
        print(
            f"hydra.launcher.accelerators={options.accelerators}: the GPU will be idle; machine=gpu trains on it",
            flush=True,
        )
    if options.dry_run:
        for run in valid.values():
            print(f"# {run.name}\n{task_yaml(task(run))}", flush=True)
        # Exit, so that Hydra does not call the end of a sweep.
        sys.exit(0)
    JobFollower(
        valid,
        task,
        SkyClient(),
        sync,
        Machine(f"{options.description}, requested", options.spot, 0.0),
        options.parallel,
        cfg.cost.budget_usd,
        options.poll_s,
    ).run()
    return [score_of(run.folder) for run in runs]


def require_gpus(runs: Iterable[Run], options: SkyOptions) -> None:
    """Check that a machine has as many GPUs as each run trains on.

    Raises:
        UserError: it has fewer.
    """
    name, _, number = (options.accelerators or "").partition(":")
    count = int(number) if number.isdigit() else 1
    for run in runs:
        devices = devices_of(run)
        if name and run.cfg.trainer.accelerator != "cpu" and devices > count:
            raise UserError(
                f"trainer.devices={devices}: hydra.launcher.accelerators={options.accelerators} has fewer GPUs: set it"
                f" to {name}:{devices}"
            )


def _run(config: DictConfig) -> Run:
    HydraConfig.instance().set_config(config)
    return run_of(config)
