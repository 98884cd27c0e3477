"""Monitor: show, stop, continue and price the runs of the sweep, here or on other machines."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from plant_pathology.core.app import run_verb
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, read_json
from plant_pathology.core.text import plain_console, printable
from plant_pathology.kaggle.sweep.plan import LAUNCHER as KAGGLE
from plant_pathology.runs.folder import CONTINUE, RESULT, STOP, job_of
from plant_pathology.runs.status import RUNNING, WAITING, Status, Watch, duration, status_of, table_of
from plant_pathology.runs.sync import sync_of
from plant_pathology.sweeps.index import named_folders, sweep_folders

WIDTH = 140  # characters of a table where the output is piped


def status(cfg: DictConfig) -> None:
    """Show the status of all runs once."""
    console = plain_console(WIDTH)
    console.print(table_of([status_of(folder) for folder in sweep_folders(cfg)], console))


def watch(cfg: DictConfig) -> None:
    """Show the status of all runs, and update it until none is running or waiting."""
    if not sys.stdout.isatty():  # below it, a line for whatever is new
        status(cfg)
    with Watch(sweep_folders(cfg)) as display:
        while any(run.state in (RUNNING, WAITING) for run in display.show()):
            time.sleep(cfg.watch.seconds)
            display.folders = sweep_folders(cfg)


def stop(cfg: DictConfig) -> None:
    """Stop runs after their current epoch.

    Raises:
        UserError: `run` means no run, or only runs that have finished.
    """
    sync = sync_of(cfg)
    for folder in unless(lambda folder: (folder / RESULT).exists(), "has finished, so it cannot be stopped", cfg):
        write_note(folder / STOP)
        if sync:
            sync.replace(folder.name, STOP, b"stop\n")
        print(f"{folder.name}: stops after the epoch in progress; `continue run={folder.name}` cancels this")
        if (job := job_of(folder)).get("launcher") == KAGGLE and "state" in job:
            page = f"https://www.kaggle.com/code/{job['job']}"
            print(f"  its session on Kaggle cannot be told: this holds from its next one on, or cancel it on {page}")


def continue_(cfg: DictConfig) -> None:
    """Let stopped runs train to their last epoch at the next start of the sweep, with stopping rules off.

    Raises:
        UserError: `run` means no run, or only runs that have trained all their epochs.
    """
    sync = sync_of(cfg)
    for folder in unless(is_trained, "has trained all its epochs; nothing is left to continue", cfg):
        write_note(folder / CONTINUE)
        for file in (STOP, RESULT):
            (folder / file).unlink(missing_ok=True)
            if sync:
                sync.delete(folder.name, file)
        if sync:
            sync.replace(folder.name, CONTINUE, b"continue\n")
        print(f"{folder.name}: stopping rules are off; start its sweep again to continue it")


def unless(excluded: Callable[[Path], bool], reason: str, cfg: DictConfig) -> list[Path]:
    """Return the folders that `run` means, but those that are excluded, which are printed with the reason.

    Raises:
        UserError: `run` means no run, or all are excluded.
    """
    folders = named_folders(cfg)
    left_out = list(filter(excluded, folders))
    if left_out == folders:
        raise UserError(f"run={cfg.run}: {', '.join(folder.name for folder in folders)} {reason}")
    for folder in left_out:
        print(f"{folder.name}: {reason}")
    return [folder for folder in folders if folder not in left_out]


def is_trained(folder: Path) -> bool:
    """Return whether a run has a result, and was not stopped before its last epoch."""
    result = folder / RESULT
    return result.exists() and not read_json(result, f"delete {folder}")["stopped"]


def write_note(path: Path) -> None:
    """Write a file whose name says all, without a change of one that DVC has linked."""
    with atomic_file(path) as work:
        work.touch()


def cost(cfg: DictConfig) -> None:
    """Show the hours, machine and cost of all runs, and their sum."""
    runs = [status_of(folder) for folder in sweep_folders(cfg)]
    paid, hours = sum(run.dollars for run in runs), sum(run.hours for run in runs)
    footers = {
        "run": "all",
        "machine": "",
        "hours": duration(3600 * hours),
        "$/hour": "",
        "dollars": f"{paid:.4f}",
        "on demand": f"{sum(map(on_demand_dollars, runs)):.4f}",
    }
    table = Table(show_footer=True)
    for column, footer in footers.items():
        text = column in ("run", "machine")
        table.add_column(column, footer, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for run in runs:
        machine = run.machine
        name = machine.name + (" (spot)" if machine.spot else "") if machine else ""
        price = f"{machine.usd_per_hour:.4f}" if machine else ""
        spent = duration(3600 * run.hours)
        table.add_row(
            printable(run.run), printable(name), spent, price, f"{run.dollars:.4f}", f"{on_demand_dollars(run):.4f}"
        )
    plain_console(WIDTH).print(table)
    if cfg.cost.budget_usd is not None:
        print(f"${paid:.4f} of cost.budget_usd={cfg.cost.budget_usd:g} is spent")


def on_demand_dollars(run: Status) -> float:
    """Return what the run's hours would cost on an on-demand machine, which the provider does not take away."""
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

  status    show all runs of the sweep once                       status paths.runs=runs
  watch     show them live until all have ended                   watch watch.seconds=5
  stop      stop a run after the epoch in progress                stop run=resnet18-lr0.0001
  continue  continue a stopped run when the sweep starts again    continue run=resnet18-lr0.0001
  cost      show hours, machines and dollars of all runs          cost cost.budget_usd=5

Runs on other machines are included if store.runs=true. `<verb> --help` shows all keys."""


if __name__ == "__main__":
    run_verb(VERBS, USAGE)
