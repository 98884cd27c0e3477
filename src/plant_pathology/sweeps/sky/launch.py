"""What hydra/launcher=sky does: refuse what could not work, then a job of SkyPilot for every run."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.runs.cost import Machine
from plant_pathology.runs.run import Run, enter_sweep, record_failure, run_of
from plant_pathology.runs.sync import RunSync
from plant_pathology.store.connect import open_store
from plant_pathology.sweeps.sky.client import SkyClient, skypilot
from plant_pathology.sweeps.sky.follow import JobFollower
from plant_pathology.sweeps.sky.options import SkyOptions
from plant_pathology.sweeps.sky.task import check_committed, check_store, export_commit, overrides_of, task_of
from plant_pathology.training.run import check


def train_on_sky(configs: list[DictConfig], options: SkyOptions) -> list[dict[str, Any] | None]:
    """Train on machines of SkyPilot; a run that fails leaves its failure.txt, and does not stop the others.

    Args:
        configs: with Hydra's own part, which knows the overrides.

    Returns:
        Each config's result; None where the run failed.

    Raises:
        UserError: a config describes no run; the code is not committed; the machines could not read the datastore;
            there is no SkyPilot.
    """
    cfg = configs[0]
    if cfg.hydra.job.name != "train":
        raise UserError(f"hydra/launcher=sky trains, and this is {cfg.hydra.job.name}: leave it out")
    skypilot()
    check_store(cfg, options)
    head = check_committed(checkout(), options.allow_uncommitted)
    runs = [_run(config) for config in configs]
    sound = {run.name: run for run in runs if _checked(run, options.dry_run)}
    folder = Path(cfg.paths.runs)
    code = export_commit(checkout(), head, folder)

    def task(run: Run) -> Any:
        hydra = run.cfg.hydra
        overrides = overrides_of(run, list(hydra.overrides.task), hydra.runtime.choices.store)
        return task_of(run, overrides, options, code)

    if options.accelerators and cfg.trainer.accelerator == "cpu":
        print(f"hydra.launcher.accelerators={options.accelerators} will idle: machine=gpu trains on it", flush=True)
    if options.dry_run:
        for run in sound.values():
            print(f"# {run.name}\n{task_yaml(task(run))}", flush=True)
        # Hydra must not take it for a sweep that is over.
        sys.exit(0)
    JobFollower(
        sound,
        task,
        SkyClient(),
        RunSync(open_store(cfg).backend, folder),
        Machine(f"{options.described}, asked for", options.use_spot and not options.slurm, 0.0),
        options.parallel,
        cfg.cost.budget_usd,
        options.poll_s,
    ).run()
    return [run.result() for run in runs]


def _run(config: DictConfig) -> Run:
    HydraConfig.instance().set_config(config)
    return run_of(config)


def _checked(run: Run, dry_run: bool) -> bool:
    """Whether its values can be: found out here, not on a machine that is paid for. A dry run notes nothing."""
    try:
        check(run.cfg)
    except UserError as error:
        if not dry_run:
            enter_sweep(run)
            record_failure(run, str(error))
        print(f"{run.name}: failed: {error}", flush=True)
        return False
    return True


def task_yaml(task: Any) -> str:
    """A task as SkyPilot writes it down, secrets redacted."""
    return skypilot().utils.yaml_utils.dump_yaml_str(task.to_yaml_config(use_user_specified_yaml=True))
