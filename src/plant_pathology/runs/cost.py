"""Compute what runs cost: hours of training times the machine's price per hour.

A run's job.json holds its machine and price; the launcher writes it when it starts the run.
"""

from dataclasses import dataclass
from pathlib import Path

from plant_pathology.core.files import write_json
from plant_pathology.runs.folder import JOB, RESULT, job_of, read_epochs


@dataclass(frozen=True)
class Machine:
    """Describe the machine that trains a run.

    Args:
        name: for example "g4dn.xlarge in us-east-1".
        spot: whether the provider may take the machine away (spot, preemptible).
        usd_per_hour: current price.
        on_demand_usd_per_hour: price of the same machine on demand; None where that is not known.
    """

    name: str
    spot: bool
    usd_per_hour: float
    on_demand_usd_per_hour: float | None = None

    @property
    def full_usd_per_hour(self) -> float:
        """Return the on-demand price of the same machine where it is known, else the current price."""
        return self.on_demand_usd_per_hour or self.usd_per_hour


def write_machine(folder: Path, machine: Machine, **job: object) -> None:
    """Write job.json: the run's machine, and in `job` what the launcher needs to find the run's job again."""
    write_json(folder / JOB, {"machine": vars(machine), **job})


def machine_of(folder: Path) -> Machine | None:
    job = job_of(folder)
    return Machine(**job["machine"]) if job else None


def hours(rows: list[dict[str, float]]) -> float:
    """Return the hours of all finished epochs; an epoch that was interrupted and lost is not counted."""
    return sum(row["seconds"] for row in rows) / 3600


def dollars(folder: Path) -> float:
    """Return the cost of a run's finished epochs in US dollars; 0 where its machine is not known."""
    machine = machine_of(folder)
    return hours(read_epochs(folder)) * machine.usd_per_hour if machine else 0.0


def may_launch(budget_usd: float | None, runs: list[Path]) -> bool:
    """Return whether one more run fits the budget.

    Unfinished runs and the next one are assumed to cost as much as the most expensive run so far.

    Args:
        budget_usd: None for no limit.
        runs: folders of all launched runs.
    """
    if budget_usd is None:
        return True
    highest = max(map(dollars, runs), default=0.0)
    committed = sum(dollars(run) if (run / RESULT).exists() else highest for run in runs)
    return committed + highest <= budget_usd
