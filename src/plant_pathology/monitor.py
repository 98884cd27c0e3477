"""Monitor: show, stop, continue and price the runs of the sweep, here or on other machines."""

import sys
import time
from collections.abc import Callable

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from plant_pathology.core.app import run_verb
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.runs.run import CONTINUE, RESULT, STOP
from plant_pathology.runs.status import RUNNING, WAITING, Status, Watch, duration, status_of, table_of
from plant_pathology.runs.sync import sync_of
from plant_pathology.sweeps.index import named_folders, sweep_folders


def status(cfg: DictConfig) -> None:
    table = table_of([status_of(folder) for folder in sweep_folders(cfg)])
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)


def watch(cfg: DictConfig) -> None:
    """Until no run of the sweep is under way."""
    with Watch(sweep_folders(cfg)) as shown:
        while any(run.state in (RUNNING, WAITING) for run in shown.show()):
            time.sleep(cfg.watch.seconds)
            shown.folders = sweep_folders(cfg)


def stop(cfg: DictConfig) -> None:
    sync = sync_of(cfg)
    for folder in named_folders(cfg):
        if (folder / RESULT).exists():
            raise UserError(f"{folder.name} is over already")
        (folder / STOP).touch()
        if sync:
            sync.replace(folder.name, STOP, b"stop\n")
        print(f"{folder.name}: stops after the epoch under way; `continue run={folder.name}` undoes that")


def continue_(cfg: DictConfig) -> None:
    sync = sync_of(cfg)
    for folder in named_folders(cfg):
        result = folder / RESULT
        if result.exists() and not read_json(result, f"delete {folder}")["stopped"]:
            raise UserError(f"{folder.name} finished all its epochs")
        (folder / CONTINUE).touch()
        for file in (STOP, RESULT):
            (folder / file).unlink(missing_ok=True)
            if sync:
                sync.delete(folder.name, file)
        if sync:
            sync.replace(folder.name, CONTINUE, b"continue\n")
        print(f"{folder.name}: no rule stops it any more; start the sweep again to continue it")


def cost(cfg: DictConfig) -> None:
    table = Table(show_footer=True)
    for column in ("run", "machine", "hours", "$/hour", "dollars", "on demand"):
        table.add_column(column, justify="left" if column in ("run", "machine") else "right")
    runs = [status_of(folder) for folder in sweep_folders(cfg)]
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


VERBS: dict[str, Callable[[DictConfig], None]] = {
    "status": status,
    "watch": watch,
    "stop": stop,
    "continue": continue_,
    "cost": cost,
}
USAGE = """\
usage: python -m plant_pathology.monitor <verb> [key=value ...]

  status    all runs of the sweep, once                    status paths.runs=runs
  watch     the same, live, until all are over             watch watch.seconds=5
  stop      end a run after the epoch under way            stop run=resnet18-lr0.0001
  continue  let a stopped run go on at the next start      continue run=resnet18-lr0.0001
  cost      seconds, machines and dollars                  cost cost.budget_usd=5

Runs on other machines are seen through the datastore (store.runs=true). `<verb> --help` shows all keys."""


if __name__ == "__main__":
    run_verb(VERBS, USAGE)
