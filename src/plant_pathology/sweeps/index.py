"""Runs seen together, here or on other machines: status, watch, stop, continue, cost.

The runs of a sweep under way are named in runs/.sweep, and stay there when some of them fail; starting the same sweep
again does only what is missing. runs/sweep.json names the runs of the last sweep besides.
"""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from plant_pathology.runs.sync import mirror_of, told
from plant_pathology.runs.run import CONTINUE, RESULT, RUN, STOP, SWEEP
from plant_pathology.core.app import StageError, read_json, run_verb, write_json
from plant_pathology.runs.status import RUNNING, WAITING, Status, Watch, duration, failure_cause, status_of, table_of

INDEX = "sweep.json"


class SweepIndex(Callback):
    """Hydra's callback around a multirun: adds the folds to what is swept, and keeps the index of what was."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        add_folds(config)
        # This one may be refused, or a dry run: until a run of it begins, the last sweep is the one to be asked about.
        settle(Path(config.paths.runs))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        runs = Path(config.paths.runs)
        names = entered(runs)
        failed = [name for name in names if not (runs / name / RESULT).exists()]
        if failed:
            causes = "\n  ".join(f"{name}: {failure_cause(runs / name)}" for name in failed)
            sys.exit(
                f"error: {len(failed)} of {len(names)} runs failed; start the sweep again to do only these\n  {causes}"
            )
        settle(runs)


def settle(runs: Path) -> None:
    """Make the runs that were entered the last sweep's; of a sweep without any nothing is to be known."""
    if (runs / SWEEP).exists():
        write_json(runs / INDEX, {"runs": entered(runs)})
        shutil.rmtree(runs / SWEEP)


def entered(runs: Path) -> list[str]:
    """The runs of the sweep under way; none where none has begun."""
    return sorted(entry.name for entry in (runs / SWEEP).glob("*"))


def sweep_names(runs: Path) -> list[str]:
    """The runs of the sweep under way, or else of the last one; none where there was none."""
    if names := entered(runs):
        return names
    return read_json(runs / INDEX, "start the sweep again")["runs"] if (runs / INDEX).exists() else []


def add_folds(config: DictConfig) -> None:
    """With train.folds above 1 the sweep has an axis more, unless the command line gives data.fold."""
    folds, prepared = config.train.folds, config.prepare.folds
    if not isinstance(folds, int) or not 1 <= folds <= prepared:
        # Hydra makes a warning of a callback's exception.
        sys.exit(f"error: train.folds={folds}: choose a whole number from 1 to prepare.folds={prepared}")
    if folds > 1:
        OmegaConf.update(config, "hydra.sweeper.params", {"data.fold": f"range(0,{folds})"}, force_add=True)


def sweep_results(runs: Path) -> list[dict[str, Any]]:
    """The results of the last sweep's runs, best sample-F1 first, equals by name.

    Of a sweep that is not done, or in which runs failed, those that are over; the others are named.

    Raises:
        StageError: no run of a sweep is over.
    """
    remedy = "run `python -m plant_pathology.train -m`; it does only what is missing"
    names = sweep_names(runs)
    over = [name for name in names if (runs / name / RESULT).exists()]
    if missing := sorted({*names} - {*over}):
        print(f"left out of {len(names)} runs, since they failed or are not over: {', '.join(missing)}")
    results = [read_json(runs / name / RESULT, remedy) for name in over]
    if not results:
        raise StageError(f"{runs} holds no run of a sweep that is over: {remedy}")
    return sorted(results, key=lambda result: (-result["f1"], result["run"]))


def status(cfg: DictConfig) -> None:
    table = table_of([status_of(folder) for folder in folders(cfg)])
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)


def watch(cfg: DictConfig) -> None:
    """Until no run of the sweep is under way."""
    with Watch(folders(cfg)) as shown:
        while any(run.state in (RUNNING, WAITING) for run in shown.show()):
            time.sleep(cfg.watch.seconds)
            shown.folders = folders(cfg)


def stop(cfg: DictConfig) -> None:
    mirror = mirror_of(cfg)
    for folder in chosen(cfg):
        if (folder / RESULT).exists():
            raise StageError(f"{folder.name} is over already")
        (folder / STOP).touch()
        if mirror:
            mirror.replace(folder.name, STOP, b"stop\n")
        print(f"{folder.name}: stops after the epoch under way; `continue run={folder.name}` undoes that")


def go_on(cfg: DictConfig) -> None:
    mirror = mirror_of(cfg)
    for folder in chosen(cfg):
        result = folder / RESULT
        if result.exists() and not read_json(result, f"delete {folder}")["stopped"]:
            raise StageError(f"{folder.name} finished all its epochs")
        (folder / CONTINUE).touch()
        for file in (STOP, RESULT):
            (folder / file).unlink(missing_ok=True)
            if mirror:
                mirror.delete(folder.name, file)
        if mirror:
            mirror.replace(folder.name, CONTINUE, b"continue\n")
        print(f"{folder.name}: no rule stops it any more; start the sweep again to continue it")


def cost(cfg: DictConfig) -> None:
    table = Table(show_footer=True)
    for column in ("run", "machine", "hours", "$/hour", "dollars", "on demand"):
        table.add_column(column, justify="left" if column in ("run", "machine") else "right")
    runs = [status_of(folder) for folder in folders(cfg)]
    for run in runs:
        machine = run.machine
        name = machine.name + (" (spot)" if machine.spot else "") if machine else ""
        price = f"{machine.usd_per_hour:.4f}" if machine else ""
        spent = duration(3600 * run.hours)
        table.add_row(run.run, name, spent, price, f"{run.dollars:.4f}", f"{on_demand(run):.4f}")
    paid, spent = sum(run.dollars for run in runs), duration(3600 * sum(run.hours for run in runs))
    footers = ("all", "", spent, "", f"{paid:.4f}", f"{sum(map(on_demand, runs)):.4f}")
    for column, footer in zip(table.columns, footers, strict=True):
        column.footer = footer
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)
    if cfg.cost.budget_usd is not None:
        print(f"${paid:.4f} of cost.budget_usd={cfg.cost.budget_usd:g} is spent")


def on_demand(run: Status) -> float:
    """Dollars for the same hours on a machine that can't be taken away."""
    return run.hours * run.machine.full_usd_per_hour if run.machine else 0.0


def folders(cfg: DictConfig) -> list[Path]:
    """The runs of the sweep under way, or else of the last one; all there are where neither is known."""
    runs = Path(cfg.paths.runs)
    if mirror := mirror_of(cfg):
        mirror.pull_all(told)
    if names := sweep_names(runs):
        return [runs / name for name in names]
    if found := sorted(path.parent for path in runs.glob(f"*/{RUN}")):
        return found
    raise StageError(f"{runs} holds no runs: start some with `python -m plant_pathology.train -m`")


def chosen(cfg: DictConfig) -> list[Path]:
    """The folders of the runs whose names begin with `run`."""
    if not cfg.run:
        raise StageError("run is not set: name the run, or how its name begins, run=<name>")
    runs = folders(cfg) + sorted(path.parent for path in Path(cfg.paths.runs).glob(f"*/{RUN}"))
    if found := list(dict.fromkeys(folder for folder in runs if folder.name.startswith(cfg.run) and folder.exists())):
        return found
    raise StageError(f"run={cfg.run}: there is none; there are {', '.join(sorted({run.name for run in runs}))}")


VERBS: dict[str, Callable[[DictConfig], None]] = {
    "status": status,
    "watch": watch,
    "stop": stop,
    "continue": go_on,
    "cost": cost,
}
USAGE = """\
usage: python -m plant_pathology.sweep <verb> [key=value ...]

  status    all runs of the sweep, once                    status paths.runs=runs
  watch     the same, live, until all are over             watch watch.seconds=5
  stop      end a run after the epoch under way            stop run=resnet18-lr0.0001
  continue  let a stopped run go on at the next start      continue run=resnet18-lr0.0001
  cost      seconds, machines and dollars                  cost cost.budget_usd=5

Runs on other machines are seen through the datastore (store.runs=true). `<verb> --help` shows all keys."""


if __name__ == "__main__":
    run_verb(VERBS, USAGE)
