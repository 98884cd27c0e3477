"""Read the status of runs from their folders, and show it: a live table on a terminal, else one line per event."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.text import fitting_table, plain_console, printable
from plant_pathology.runs.cost import Machine, hours, machine_of
from plant_pathology.runs.folder import CHECKPOINTS, FAILURE, METRICS, RESULT, RUN, STOP, is_locked, job_of, read_epochs

WAITING, RUNNING, INTERRUPTED = "waiting", "running", "interrupted"
FINISHED, STOPPED, FAILED, DAMAGED = "finished", "stopped", "failed", "damaged"
REPAIR = "start the sweep again"
SILENCE = 300  # seconds, plus three epochs: a run on another machine without news for so long was interrupted
COLORS = {RUNNING: "green", FINISHED: "bold", STOPPED: "yellow", FAILED: "red", DAMAGED: "red", INTERRUPTED: "red"}


@dataclass(frozen=True)
class Status:
    """Status of one run.

    Args:
        run: the run's name.
        state: waiting, running, interrupted, finished, stopped, failed, damaged, or the state of its cloud job.
        rows: rows of metrics.csv, one per finished epoch.
        epochs: number of epochs to train; None where run.json does not exist yet.
        seconds_left: remaining time of a running run, estimated from its last epoch.
        machine: the machine that trains it; None where no launcher started it.
        note: why it failed or stopped.
        metric: name of the competition's metric; "" where run.json does not exist yet.
        score: of a run that has a result, with test-time augmentation; rows have scores without it.
    """

    run: str
    state: str
    rows: list[dict[str, float]]
    epochs: int | None
    seconds_left: float | None
    machine: Machine | None
    note: str
    metric: str
    score: float | None = None

    @property
    def hours(self) -> float:
        return hours(self.rows)

    @property
    def dollars(self) -> float:
        return self.hours * self.machine.usd_per_hour if self.machine else 0.0

    @property
    def best(self) -> dict[str, float] | None:
        """Return the row of the epoch with the best score; None for a run of an earlier version, which has no score."""
        scored = [row for row in self.rows if "val_score" in row]
        return max(scored, key=lambda row: row["val_score"], default=None)

    @property
    def best_score(self) -> str:
        """Return the run's score as text; before it has a result, the metric at the best epoch; "" before the first."""
        if self.score is not None:
            return f"{self.score:.4f}"
        return f"{self.best[f'val_{self.metric}']:.4f}" if self.best and self.metric else ""


def status_of(folder: Path) -> Status:
    """Read a run's status from its folder, also while the run writes to it."""
    try:
        return _status_of(folder)
    except UserError as error:  # one damaged file must not hide the other runs
        return Status(folder.name, DAMAGED, [], None, None, None, str(error), "")


def _status_of(folder: Path) -> Status:
    rows = read_epochs(folder)
    planned, left, metric = None, None, ""
    result = record_of(folder / RESULT) if (folder / RESULT).exists() else None
    state, note = _ended(result) if result is not None else _state(folder, rows)
    if (folder / RUN).exists():
        config = record_of(folder / RUN).get("config", {})
        planned = config.get("trainer", {}).get("max_epochs")
        metric = config.get("competition", {}).get("metric", "")
        if state == RUNNING and rows and planned:
            left = max(0.0, (planned - len(rows)) * rows[-1]["seconds"] - seconds_since_epoch(folder))
    score = result.get("score") if result else None
    return Status(folder.name, state, rows, planned, left, machine_of(folder), note, metric, score)


def record_of(path: Path) -> dict[str, Any]:
    """Read a run's run.json or result.json, also of earlier code.

    Raises:
        UserError: it is no JSON object.
    """
    content = read_json(path, REPAIR)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not what a run writes: {REPAIR}")
    return content


def seconds_since_epoch(folder: Path) -> float:
    """Return the seconds since a run's last epoch ended; 0 where the clock went back since."""
    return max(0.0, time.time() - (folder / METRICS).stat().st_mtime)


def _ended(result: dict[str, Any]) -> tuple[str, str]:
    return (STOPPED, result["stopped"]) if result.get("stopped") else (FINISHED, "")


def _state(folder: Path, rows: list[dict[str, float]]) -> tuple[str, str]:
    if folder.exists() and is_locked(folder):
        return RUNNING, "stops after this epoch" if (folder / STOP).exists() else ""
    if (folder / FAILURE).exists():
        return FAILED, failure_cause(folder)
    if "state" in (job := job_of(folder)):
        return job["state"], f"job {job['job']}" + (f": {job['news']}" if job.get("news") else "")
    if rows and not (folder / CHECKPOINTS).exists():
        # Its metrics were downloaded: it trains on another machine, whose lock is not visible here.
        silent = seconds_since_epoch(folder)
        state = RUNNING if silent < SILENCE + 3 * rows[-1]["seconds"] else INTERRUPTED
        return state, f"on another machine, last news {duration(silent)} ago"
    return (INTERRUPTED if (folder / RUN).exists() else WAITING), ""


def failure_cause(folder: Path) -> str:
    """Return the last line of failure.txt."""
    try:
        return (folder / FAILURE).read_text(encoding="utf-8").strip().splitlines()[-1]
    except (FileNotFoundError, IndexError):
        return "ended without an error message"


def epoch_line(run: str, row: dict[str, float], planned: int | None, metric: str) -> str:
    """Format a row of metrics.csv as a line for a log."""
    score = f"  {metric} {row[f'val_{metric}']:.4f}" if f"val_{metric}" in row else ""
    return f"{run}: epoch {row['epoch'] + 1:.0f}/{planned}  loss {row['train_loss']:.4f}{score}  {row['seconds']:.1f} s"


def table_of(runs: Sequence[Status], console: Console) -> Table:
    """Build a table with one row per run, which fits the console."""
    columns = ("run", "state", "epoch", "best", "at", "images/s", "left", "cost", "note")
    rows: list[tuple[str | Text, ...]] = []
    for run in runs:
        best, last = run.best, run.rows[-1] if run.rows else None
        rows.append((
            printable(run.run),
            Text(printable(run.state), style=COLORS.get(run.state, "dim")),
            f"{len(run.rows)}/{run.epochs or '?'}",
            run.best_score,
            f"{best['epoch'] + 1:.0f}" if best else "",
            f"{last['images_per_second']:.0f}" if last else "",
            duration(run.seconds_left) if run.seconds_left is not None else "",
            f"${run.dollars:.2f}" if run.dollars else "",
            printable(run.note),
        ))  # fmt: skip
    return fitting_table(
        console, columns, rows, ("run", "state", "note"), ("images/s", "at", "cost", "left", "best", "epoch")
    )


def duration(seconds: float) -> str:
    """Format seconds as 1:02:03, or 2:03 below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Watch:
    """Show the progress of runs inside a `with` block; each call of `show` reads their folders and updates it.

    Args:
        folders: the runs' folders, which need not exist yet.
    """

    def __init__(self, folders: Sequence[Path]):
        self.folders = list(dict.fromkeys(folders))
        self._shown: dict[str, tuple[int, str]] = {}  # epochs and state of each run
        self._live = Live(console=plain_console(140), auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> "Watch":
        if self._live:
            self._live.start()
        else:
            self._shown = {run.run: (len(run.rows), run.state) for run in map(status_of, self.folders)}
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live:
            self.show()
            self._live.stop()

    def show(self) -> list[Status]:
        """Read the status of all runs, show it, and return it."""
        runs = [status_of(folder) for folder in self.folders]
        if self._live:
            self._live.update(table_of(runs, self._live.console), refresh=True)
        else:
            for run in runs:
                self._print_news(run)
        return runs

    def _print_news(self, run: Status) -> None:
        shown, state = self._shown.get(run.run, (0, WAITING))
        for row in run.rows[shown:]:
            print(epoch_line(run.run, row, run.epochs, run.metric), flush=True)
        if run.state not in (state, RUNNING, WAITING):
            reached = f", {run.metric} {run.best_score} at epoch {run.best['epoch'] + 1:.0f}" if run.best else ""
            note = f" ({printable(run.note)})" if run.note else ""
            print(f"{printable(run.run)}: {run.state}{reached}{note}", flush=True)
        self._shown[run.run] = (len(run.rows), run.state)
