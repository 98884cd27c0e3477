"""Train the runs of a sweep on Kaggle's own GPUs: hydra/launcher=kaggle pushes kernels that train several runs each.

options.py: the keys of hydra.launcher.
plan.py: which runs share a session; hours of the quota and of wall time.
payload.py: the datasets that travel: shards, code, what unfinished runs continue from.
script.py, worker.py: what runs in a session: the local launcher, with a limit of time.
session.py: what is known of a session, on disk.
sessions.py: push, follow, continue; started again, find the sessions of an earlier start.
collect.py: bring the output back.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.core.one_command import one_command
from plant_pathology.core.schema import CPU
from plant_pathology.core.secrets import hide_secrets_in_output
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.progress import show
from plant_pathology.kaggle.retries import timeouts_and_retries
from plant_pathology.kaggle.sweep.options import KaggleOptions
from plant_pathology.kaggle.sweep.payload import code_parcel, data_parcel
from plant_pathology.kaggle.sweep.plan import loads_of, plan_of
from plant_pathology.kaggle.sweep.session import FOLDER
from plant_pathology.kaggle.sweep.sessions import Sessions
from plant_pathology.runs.finished import score_of
from plant_pathology.runs.run import Run, devices_of, run_of
from plant_pathology.runs.sweep_lists import enter_sweep
from plant_pathology.training.needed_weights import require_weights_elsewhere
from plant_pathology.training.run import is_to_train, is_valid


def train_on_kaggle(configs: list[DictConfig], options: KaggleOptions) -> list[float | None]:
    """Train runs in sessions of Kaggle, and wait until all have ended.

    Args:
        configs: one per run.

    Returns:
        Score of each run, as `score_of`.

    Raises:
        UserError: there are no credentials, the quota does not suffice, a run's weights cannot be had there, it needs
            more GPUs than a session has, or Kaggle refuses a step.
        SystemExit: after a dry run, or Ctrl-C.
    """
    hide_secrets_in_output()
    cfg = configs[0]
    runs = [run_of(config) for config in configs]
    for run in runs if not options.dry_run else ():
        enter_sweep(run.folder)
    valid = {run.name: run for run in runs if is_valid(run, options.dry_run)}
    missing = {name: run for name, run in valid.items() if is_to_train(run)}
    require_weights_elsewhere(missing.values(), "kaggle", None)
    options = with_cards_for_runs(options, missing.values())
    if options.accelerator != CPU and cfg.trainer.accelerator == "cpu":
        show("warning", f"trainer.accelerator=cpu leaves {options.accelerator} idle; machine=gpu trains on it")
    show("plan", str(plan_of(loads_of(list(missing.values()), options), options)))
    if options.dry_run:
        with timeouts_and_retries(cfg.submit):
            show_quota(cfg)
        # Exit, so that Hydra does not call the end of a sweep.
        sys.exit(0)
    if missing:
        root = Path(cfg.paths.runs) / FOLDER
        with one_command(writes=[root]), timeouts_and_retries(cfg.submit):
            kaggle = Kaggle(cfg.competition.name)
            show("account", kaggle.user)
            train_missing(kaggle, missing, options, root, cfg)
    return [score_of(run.folder) for run in runs]


def with_cards_for_runs(options: KaggleOptions, runs: Iterable[Run]) -> KaggleOptions:
    """Return the options with as many runs at once as a session has GPUs for.

    Raises:
        UserError: a run needs more GPUs than a session has.
    """
    devices = max(map(devices_of, runs), default=1)
    if devices > options.cards:
        raise UserError(f"trainer.devices={devices}: a session has hydra.launcher.cards={options.cards}: lower it")
    return replace(options, cards=options.cards // devices)


def train_missing(kaggle: Kaggle, missing: dict[str, Run], options: KaggleOptions, root: Path, cfg: DictConfig) -> None:
    """Train runs that have no result; on Ctrl-C leave the sessions on Kaggle to end by themselves."""
    own = Path(cfg.paths.code) / f"{cfg.competition.name}.py"
    version = next(iter(missing.values())).version
    place = (root, kaggle.user, cfg.competition.name)
    code = code_parcel(*place, own if own.exists() else None)
    sessions = Sessions(kaggle, missing, options, root, code, data_parcel(*place, version), cfg.submit)
    if options.accelerator != CPU:
        check_quota(kaggle, list(missing.values()), options)
    try:
        sessions.run()
    except KeyboardInterrupt:
        kernels = ", ".join(each.kernel for each in sessions.open) or "none"
        print(f"\nsessions that go on: {kernels}; the same command follows them again", file=sys.stderr)
        sys.exit(130)


def check_quota(kaggle: Kaggle, runs: Sequence[Run], options: KaggleOptions) -> None:
    """Check that the week's quota suffices for the sweep; where it does not, ask, or without a terminal refuse.

    Raises:
        UserError: it does not, and nobody agreed.
    """
    quota, needed = kaggle.gpu_hours(), plan_of(loads_of(runs, options), options).quota_hours
    if quota is None:
        show("quota", "Kaggle does not tell")
        return
    show("quota", str(quota))
    if quota.left >= needed or options.over_quota:
        return
    lacking = f"the sweep takes about {needed:.1f} GPU hours, and {quota.left:.1f} are left ({quota})"
    if sys.stdin.isatty() and quota.left > 0:
        question = f"{lacking}. Begin, and continue with the same command when it is renewed? [y/N] "
        if input(question).strip().lower() in ("y", "yes"):
            return
    raise UserError(
        f"{lacking}: wait until it is renewed, sweep less, or begin with hydra.launcher.over_quota=true and continue"
        " with the same command then"
    )


def show_quota(cfg: DictConfig) -> None:
    """Print the week's quota, as far as there are credentials and Kaggle tells it."""
    try:
        show("quota", str(Kaggle(cfg.competition.name).gpu_hours() or "Kaggle does not tell"))
    except UserError as error:
        show("quota", f"unknown: {error}")
