"""Plan a sweep on Kaggle: which runs share a session, and the hours of quota and wall time that it takes.

A session costs its wall time once, however many cards it has. So few full sessions take the least of the quota, and
runs go to the card that is free first, longest run first (LPT, Graham 1969), which keeps the cards' ends close.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plant_pathology.kaggle.sweep.options import KaggleOptions
from plant_pathology.runs.folder import RUN, job_of, read_epochs
from plant_pathology.runs.run import Run
from plant_pathology.runs.status import record_of

LAUNCHER = "kaggle"  # in job.json


@dataclass(frozen=True)
class Load:
    """What is left of a run.

    Args:
        name: of the run.
        hours: on one card, estimated.
    """

    name: str
    hours: float


@dataclass(frozen=True)
class Plan:
    """The sessions that a sweep takes, as far as can be told before it begins.

    Args:
        sessions: the runs of each, longest first.
        hours: of wall time of each session.
        at_once: number of sessions at once.
        cards: of a session.
    """

    sessions: list[list[Load]]
    hours: list[float]
    at_once: int
    cards: int

    @property
    def quota_hours(self) -> float:
        """Return the hours that the sessions take of the week's quota."""
        return sum(self.hours)

    @property
    def wall_hours(self) -> float:
        """Return the hours until the last session ends, if none waits for other kernels of the account."""
        return max(_queues(self.hours, self.at_once), default=0.0)

    def __str__(self) -> str:
        runs, sessions = sum(map(len, self.sessions)), len(self.sessions)
        return (
            f"{runs} run{'s'[: runs != 1]} in {sessions} session{'s'[: sessions != 1]} of {self.cards} at once:"
            f" {self.quota_hours:.1f} session hours, done after {self.wall_hours:.1f} hours"
        )


def plan_of(loads: Sequence[Load], options: KaggleOptions) -> Plan:
    """Divide runs among as few sessions as their hours allow.

    A run that is longer than a session is continued in the next ones; its hours beyond the first count as sessions of
    their own.
    """
    ordered = sorted(loads, key=lambda load: (-load.hours, load.name))
    most = max(1, -(-len(ordered) // options.cards))
    for count in range(min(options.sessions, most), most + 1):
        sessions = _dealt(ordered, count, options.cards)
        if all(_hours(session, options.cards) <= options.session_h for session in sessions):
            break
    hours = [part for session in sessions for part in _parts(_hours(session, options.cards), options.session_h)]
    return Plan([session for session in sessions if session], hours, options.sessions, options.cards)


def _dealt(ordered: Sequence[Load], sessions: int, cards: int) -> list[list[Load]]:
    """Deal runs to the card with the least to do; return them by session."""
    heap = [(0.0, card) for card in range(sessions * cards)]
    dealt: list[list[Load]] = [[] for _ in range(sessions)]
    for load in ordered:
        hours, card = heapq.heappop(heap)
        dealt[card % sessions].append(load)
        heapq.heappush(heap, (hours + load.hours, card))
    return dealt


def _hours(session: Sequence[Load], cards: int) -> float:
    return max(_queues([load.hours for load in session], cards), default=0.0)


def _queues(hours: Sequence[float], count: int) -> list[float]:
    """Return when each of `count` queues ends if the next job always goes to the queue that is free first."""
    ends = [0.0] * count
    for each in hours:
        heapq.heapreplace(ends, ends[0] + each)
    return ends


def _parts(hours: float, most: float) -> list[float]:
    """Split hours into whole sessions and a rest."""
    whole = int(hours // most)
    rest = hours - whole * most
    return [most] * whole + ([rest] if rest > 0 else [])


def loads_of(runs: Sequence[Run], options: KaggleOptions) -> list[Load]:
    """Estimate what is left of each run: from its own epochs on Kaggle, else from other runs' of the same model."""
    measured = seconds_by_model(runs[0].folder.parent) if runs else {}
    loads = []
    for run in runs:
        epochs = run.cfg.trainer.max_epochs
        seconds = measured.get(run.cfg.model.name, 60 * options.run_minutes / epochs)
        loads.append(Load(run.name, max(0, epochs - len(read_epochs(run.folder))) * seconds / 3600))
    return loads


def seconds_by_model(runs: Path) -> dict[str, float]:
    """Return the mean seconds per epoch of all runs on Kaggle below a folder, by their model's name."""
    found: dict[str, list[float]] = {}
    for path in runs.glob(f"*/{RUN}"):
        if job_of(path.parent).get("launcher") == LAUNCHER:
            model = record_of(path).get("config", {}).get("model", {}).get("name", "")
            found.setdefault(model, []).extend(row["seconds"] for row in read_epochs(path.parent))
    return {model: sum(seconds) / len(seconds) for model, seconds in found.items() if seconds}
