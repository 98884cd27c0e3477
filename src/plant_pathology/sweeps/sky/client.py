"""Call SkyPilot: submit managed jobs, query and cancel them. Only this file and task.py know SkyPilot's API.

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
LOG_PREFIX = re.compile(r"^\(.*?, pid=\d+\) ")  # SkyPilot's prefix of each line that a job prints
CAUSE = re.compile(r"error: |[\w.]*(Error|Exception)\b")


def skypilot() -> ModuleType:
    """Import SkyPilot.

    Raises:
        UserError: it is not installed.
    """
    # SkyPilot's database migrations log to whoever has set up logging, as Hydra has.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        import sky
    except ImportError as error:
        install = 'pip install -c requirements.lock -e ".[sky]"'
        raise UserError(f"hydra/launcher=sky needs SkyPilot ({error}): {install}") from None
    return sky


@dataclass(frozen=True)
class Job:
    """A managed job, as SkyPilot's queue reports it.

    Args:
        state: SkyPilot's status: PENDING, STARTING, RUNNING, RECOVERING, SUCCEEDED, FAILED, ...
        reason: why it failed.
        recoveries: how often SkyPilot replaced its machine.
        machine: the machine that it runs on; None until one is known.
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
    """A client of the SkyPilot API server that `sky` is configured for; the first call starts a local one."""

    def __init__(self) -> None:
        self.sky = skypilot()

    def submit(self, task: Any) -> str:
        """Submit a task, and return the id of the request after seconds, without waiting for a machine."""
        return str(self.sky.jobs.launch(task))

    def job_of_request(self, request: str) -> int | None:
        """Return the id of the job that a request created; None while the request is being processed.

        Raises:
            UserError: SkyPilot refused the request, or no longer knows it.
        """
        found = self.sky.api_status([request], fields=["status"])
        if found and str(found[0].status) not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            return None
        try:
            return self.sky.get(self.sky.server.common.RequestId(request))[0][0]
        except Exception as error:
            raise UserError(f"SkyPilot created no job: {first_line(error)}") from None

    def jobs(self, ids: list[int] | None = None) -> list[Job]:
        """Return the user's active jobs, or the jobs with these ids, for which a sleeping controller is woken up."""
        try:
            request = self.sky.jobs.queue_v2(
                refresh=ids is not None, skip_finished=ids is None, job_ids=ids, fields=FIELDS
            )
            records = self.sky.get(request)[0]
        except self.sky.exceptions.ClusterNotUpError:
            return []
        return [self._job(record) for record in records]

    def last_error(self, job: int) -> str:
        """Return the last line of a failed job's log that looks like an error; empty if there is none."""
        log = io.StringIO()
        try:
            self.sky.jobs.tail_logs(job_id=job, follow=False, tail=50, output_stream=log)
        except Exception:
            return ""
        lines = [LOG_PREFIX.sub("", COLOR.sub("", line)) for line in log.getvalue().splitlines()]
        return next((line for line in reversed(lines) if CAUSE.match(line)), "")

    def cancel(self, ids: list[int]) -> None:
        """Cancel jobs, and wait until SkyPilot confirms."""
        self.sky.get(self.sky.jobs.cancel(job_ids=ids))

    def _job(self, record: Any) -> Job:
        return Job(
            record.job_id,
            record.job_name,
            record.status.value,
            first_line(record.failure_reason or ""),
            record.recovery_count or 0,
            self._machine(record),
        )

    def _machine(self, record: Any) -> Machine | None:
        """Return a job's machine with the prices of SkyPilot's catalog; None while it has none."""
        launched = record.cluster_resources_full or "-"
        if launched == "-":
            return None
        spot = "[spot]" in launched
        place = "/".join(part for part in (record.cloud, record.region, record.zone) if part and part != "-")
        # The queue has the machine's type only within a text: (gpus=T4:1, cpus=4, mem=16, g4dn.xlarge, disk=256).
        kind = re.search(r"([\w.-]+)(?:, image_id=[^,]+)?, disk=", launched)
        if not kind or record.cloud == "Slurm":
            return Machine(f"{record.cloud} {record.region}", spot, 0.0)
        name = f"{kind[1]} in {record.zone or record.region}"
        try:
            price, on_demand = (
                self.sky.Resources(
                    infra=place.lower(), instance_type=kind[1], accelerators=record.accelerators, use_spot=each
                ).get_cost(3600)
                for each in (spot, False)
            )
        except Exception:
            return Machine(f"{name}, price unknown to SkyPilot", spot, 0.0)
        return Machine(name, spot, price, on_demand)


def first_line(error: object) -> str:
    """Return the first line of SkyPilot's message, without color codes."""
    return (COLOR.sub("", str(error)).strip().splitlines() or [""])[0]
