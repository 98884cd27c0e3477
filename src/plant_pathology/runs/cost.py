"""What runs cost: seconds of machines, by their price an hour.

A run's job.json names its machine and price; the launcher that started the run wrote it.
"""

from dataclasses import dataclass
from pathlib import Path

from plant_pathology.core.files import write_json
from plant_pathology.runs.run import JOB, RESULT, epochs, job_of


@dataclass(frozen=True)
class Machine:
    """What trains a run.

    Args:
        name: such as "g4dn.xlarge in us-east-1".
        usd_per_hour: paid now.
        on_demand_usd_per_hour: of the same machine when it can't be taken away; null where that is not known.
    """

    name: str
    spot: bool
    usd_per_hour: float
    on_demand_usd_per_hour: float | None = None

    @property
    def full_usd_per_hour(self) -> float:
        """What the same machine costs that can't be taken away, as far as that is known."""
        return self.on_demand_usd_per_hour or self.usd_per_hour


def write_machine(folder: Path, machine: Machine, **job: object) -> None:
    """Keep with a run what trains it; `job`: whatever the launcher needs to find it again."""
    write_json(folder / JOB, {"machine": vars(machine), **job})


def machine_of(folder: Path) -> Machine | None:
    job = job_of(folder)
    return Machine(**job["machine"]) if job else None


def hours(rows: list[dict[str, float]]) -> float:
    """Spent on epochs that are over; what died before its checkpoint is not counted."""
    return sum(row["seconds"] for row in rows) / 3600


def dollars(folder: Path) -> float:
    machine = machine_of(folder)
    return hours(epochs(folder)) * machine.usd_per_hour if machine else 0.0


def may_launch(budget_usd: float | None, runs: list[Path]) -> bool:
    """Whether one more run fits the budget. Each run that is not over, and the next, is taken to cost as much as the
    dearest so far.

    Args:
        runs: folders of all that were launched.
    """
    if budget_usd is None:
        return True
    dearest = max(map(dollars, runs), default=0.0)
    committed = sum(dollars(run) if (run / RESULT).exists() else dearest for run in runs)
    return committed + dearest <= budget_usd
