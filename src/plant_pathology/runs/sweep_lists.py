"""Keep a list of its runs for every sweep, so that sweeps that share a folder judge their own runs alone.

Sweeps are numbered in the order in which they start. runs/.sweeps/<number>/ has one empty file per run, which any
process may add; a process finds the number of its sweep in the environment, which a launcher's jobs inherit.
runs/sweep.json lists, for people, the runs of the last sweep that ended.
"""

import os
import re
from contextlib import suppress
from itertools import count
from pathlib import Path

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json, write_json

LISTS, LATEST = ".sweeps", "sweep.json"
VARIABLE = "PLANT_PATHOLOGY_SWEEP"


def begin_sweep(runs: Path) -> int:
    """Take the next number for a sweep that this process starts, and return it."""
    lists = runs / LISTS
    lists.mkdir(parents=True, exist_ok=True)
    for number in count(max(_numbers(runs), default=0) + 1):
        try:
            (lists / str(number)).mkdir()
        except FileExistsError:  # another sweep took it meanwhile
            continue
        os.environ[VARIABLE] = str(number)
        return number
    raise AssertionError("numbers do not end")


def enter_sweep(folder: Path) -> None:
    """Add a run to the list of its sweep: that of this process, or else the one that started last.

    Args:
        folder: the run's folder.
    """
    number = own_sweep() or max(_numbers(folder.parent), default=1)
    entry = folder.parent / LISTS / str(number) / folder.name
    if not entry.exists():
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.touch()


def own_sweep() -> int | None:
    """Return the number of the sweep that this process belongs to; None outside a sweep."""
    number = os.environ.get(VARIABLE)
    return int(number) if number else None


def end_sweep(runs: Path, number: int) -> list[str]:
    """Return the names of a sweep's runs, and write them to sweep.json, unless a later sweep has begun to train.

    A sweep that started no run is forgotten.
    """
    os.environ.pop(VARIABLE, None)
    with suppress(OSError):  # it has runs
        (runs / LISTS / str(number)).rmdir()
    found = sweeps(runs)
    if number == max(found, default=None):
        write_json(runs / LATEST, {"sweep": number, "runs": found[number]})
    return found.get(number, [])


def members(runs: Path, number: int) -> list[str]:
    """Return the names of a sweep's runs, sorted; an empty list where there is no such sweep."""
    return sorted(entry.name for entry in (runs / LISTS / str(number)).glob("[!.]*"))  # NFS and macOS add dot files


def sweeps(runs: Path) -> dict[int, list[str]]:
    """Return the names of the runs of every sweep that started one, by its number, in the order of their start."""
    return {number: names for number in _numbers(runs) if (names := members(runs, number))}


def chosen_sweep(runs: Path, number: int | None = None) -> list[str]:
    """Return the names of a sweep's runs; an empty list where no sweep has started one.

    Args:
        number: None for the sweep that started last.

    Raises:
        UserError: there is no such sweep.
    """
    found = sweeps(runs)
    if number is None:
        if found:
            return found[max(found)]
        latest = runs / LATEST
        return read_json(latest, "start the sweep again")["runs"] if latest.exists() else []
    if number not in found:
        known = ", ".join(map(str, found)) or "none"
        raise UserError(f"select.sweep={number}: {runs} has no such sweep; it has {known}")
    return found[number]


def _numbers(runs: Path) -> list[int]:
    found = [path.name for path in (runs / LISTS).glob("[0-9]*")]
    return sorted(int(name) for name in found if re.fullmatch("[0-9]+", name))  # not of copies, such as `1 (copy)`
