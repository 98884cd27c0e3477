"""SkyPilot's managed jobs, in the few calls that a sweep needs; nothing else here talks to SkyPilot's server.

SkyPilot is imported when it is first needed: Hydra imports every launcher at every start.
"""

import io
import logging
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.runs.cost import Machine

SUCCEEDED, CANCELLED = "SUCCEEDED", "CANCELLED"
FIELDS = (
    *("job_id", "job_name", "status", "failure_reason", "recovery_count"),
    *("cloud", "region", "zone", "cluster_resources_full", "accelerators"),
)
COLOR = re.compile(r"\x1b\[[0-9;]*m")

OWN = re.compile(r"^\(.*?, pid=\d+\) ")  # what SkyPilot puts before each line that a job prints
CAUSE = re.compile(r"error: |[\w.]*(Error|Exception)\b")


def skypilot() -> ModuleType:
    """Raises: UserError where SkyPilot is not installed."""
    # SkyPilot's database layer greets whoever has set logging up, as Hydra has.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        import sky
    except ImportError as error:
        install = 'pip install -c requirements.lock -e ".[sky]"'
        raise UserError(f"hydra/launcher=sky needs SkyPilot ({error}): {install}") from None
    return sky


@dataclass(frozen=True)
class Job:
    """A managed job, as the queue tells.

    Args:
        state: SkyPilot's word: PENDING, STARTING, RUNNING, RECOVERING, SUCCEEDED, FAILED, ...
        recoveries: how often its machine was lost.
        machine: what it runs on; None while that is not known.
    """

    id: int
    name: str
    state: str
    reason: str = ""
    recoveries: int = 0
    machine: Machine | None = None

    @property
    def ended(self) -> bool:
        return self.state in (SUCCEEDED, CANCELLED) or self.state.startswith("FAILED")


class SkyClient:
    """The API server that `sky` is configured for; a local one is started by the first call."""

    def __init__(self):
        self.sky = skypilot()

    def submit(self, task: Any) -> str:
        """Hand over a task. Returns in seconds, with the number of a request: no machine is waited for."""
        return str(self.sky.jobs.launch(task))

    def job_of_request(self, request: str) -> int | None:
        """The id of the job that a request made; None while it is being made.

        Raises:
            UserError: SkyPilot refused it, or does not know it any more.
        """
        told = self.sky.api_status([request], fields=["status"])
        if told and str(told[0].status) not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            return None
        try:
            return self.sky.get(self.sky.server.common.RequestId(request))[0][0]
        except Exception as error:
            raise UserError(f"SkyPilot made no job: {one_line(error)}") from None

    def jobs(self, ids: list[int] | None = None) -> list[Job]:
        """The jobs of these ids, for which a controller that sleeps is woken; None: all of this user that go on."""
        try:
            request = self.sky.jobs.queue_v2(
                refresh=ids is not None, skip_finished=ids is None, job_ids=ids, fields=FIELDS
            )
            records = self.sky.get(request)[0]
        except self.sky.exceptions.ClusterNotUpError:
            return []
        return [self._job(record) for record in records]

    def last_error(self, job: int) -> str:
        """What a failed job printed last; empty where that is gone."""
        said = io.StringIO()
        try:
            self.sky.jobs.tail_logs(job_id=job, follow=False, tail=50, output_stream=said)
        except Exception:
            return ""
        lines = [OWN.sub("", COLOR.sub("", line)) for line in said.getvalue().splitlines()]
        return next((line for line in reversed(lines) if CAUSE.match(line)), "")

    def cancel(self, ids: list[int]) -> None:
        self.sky.get(self.sky.jobs.cancel(job_ids=ids))

    def _job(self, record: Any) -> Job:
        return Job(
            record.job_id,
            record.job_name,
            record.status.value,
            one_line(record.failure_reason or ""),
            record.recovery_count or 0,
            self._machine(record),
        )

    def _machine(self, record: Any) -> Machine | None:
        """Priced by SkyPilot's catalogue."""
        made = record.cluster_resources_full or "-"
        if made == "-":
            return None
        spot = "[spot]" in made
        where = "/".join(part for part in (record.cloud, record.region, record.zone) if part and part != "-")
        # The queue tells what was launched in words only: (gpus=T4:1, cpus=4, mem=16, g4dn.xlarge, disk=256).
        kind = re.search(r"([\w.-]+)(?:, image_id=[^,]+)?, disk=", made)
        if not kind or record.cloud == "Slurm":
            return Machine(f"{record.cloud} {record.region}", spot, 0.0)
        name = f"{kind[1]} in {record.zone or record.region}"
        try:
            price, on_demand = (
                self.sky.Resources(
                    infra=where.lower(), instance_type=kind[1], accelerators=record.accelerators, use_spot=each
                ).get_cost(3600)
                for each in (spot, False)
            )
        except Exception:
            return Machine(f"{name}, at a price that SkyPilot does not tell", spot, 0.0)
        return Machine(name, spot, price, on_demand)


def one_line(error: object) -> str:
    """The first line of what SkyPilot says, without its colors."""
    return (COLOR.sub("", str(error)).strip().splitlines() or [""])[0]
