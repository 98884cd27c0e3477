"""A sweep on rented machines: a managed job a run, followed until all are over.

Who follows may die and come back: jobs are known by their runs' names, what they reach lies in the datastore, and a run
that is over is not launched again.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.runs.cost import Machine, machine_of, may_launch, write_machine
from plant_pathology.runs.run import FAILURE, JOB, RESULT, SWEEP, Run, enter_sweep, job_of, record_failure
from plant_pathology.runs.status import RUNNING, WAITING, Watch
from plant_pathology.runs.sync import RunSync, is_output, is_record
from plant_pathology.sweeps.sky.client import SUCCEEDED, Job, SkyClient
from plant_pathology.sweeps.sky.task import job_name
from plant_pathology.training.run import existing_result


@dataclass
class FollowedJob:
    """A run and what is known of its job.

    Args:
        request: SkyPilot's number for the launch, until there is a job.
    """

    run: Run
    job: int | None = None
    request: str | None = None
    state: str = "LAUNCHING"
    recoveries: int = 0


class JobFollower:
    """Launches what is missing and follows it.

    Args:
        runs: by name.
        task: makes the task that trains a run.
        machine: what is asked for, in words.
        parallel: jobs at once; None: all.
        budget_usd: as in `cost.may_launch`.
        poll_s: seconds between two looks at the queue.
    """

    def __init__(
        self,
        runs: Mapping[str, Run],
        task: Callable[[Run], Any],
        client: SkyClient,
        sync: RunSync,
        machine: Machine,
        parallel: int | None = None,
        budget_usd: float | None = None,
        poll_s: float = 15.0,
    ):
        self.task, self.client, self.sync, self.machine = task, client, sync, machine
        self.parallel, self.budget_usd, self.poll_s = parallel or len(runs), budget_usd, poll_s
        self.waiting = list(runs.values())
        self.followed: dict[str, FollowedJob] = {}
        # What the budget has paid for: also what a sweeper that chooses as it goes has launched before.
        before = (sync.runs / entry.name for entry in (sync.runs / SWEEP).glob("*"))
        self.launched: set[Path] = {folder for folder in before if (folder / JOB).exists()}

    def run(self) -> None:
        """Every run has a result or a failure.txt afterwards. Tells as it goes what becomes of them.

        Raises:
            SystemExit: on Ctrl-C, with the jobs cancelled or left, as the user says.
        """
        try:
            self.find_existing()
            with Watch(
                [run.folder for run in self.waiting] + [each.run.folder for each in self.followed.values()]
            ) as watch:
                self.launch()
                while self.followed:
                    time.sleep(self.poll_s)
                    self.look()
                    watch.show()
                    self.launch()
                watch.show()
        except KeyboardInterrupt:
            self.leave()

    def find_existing(self) -> None:
        """Sort out what is over, and what an earlier start left under way."""
        for run in self.waiting:
            enter_sweep(run)
            if not run.result():
                self.sync.pull(run.name, is_output)
            if existing_result(run):
                self.launched.add(run.folder)
        self.waiting = [run for run in self.waiting if not run.result()]
        # Asked in this order: what is a request now may be a job by the next question, and never the other way round.
        requests = {run.name: request for run in self.waiting if (request := self.pending(run))}
        jobs = {job.name: job for job in self.client.jobs()} if self.waiting else {}
        for run in self.waiting:
            job = jobs.get(job_name(run))
            if job or run.name in requests:
                self.follow(FollowedJob(run, job and job.id, requests.get(run.name)))
                print(f"{run.name}: goes on as job {job.id}" if job else f"{run.name}: launched before", flush=True)
        self.waiting = [run for run in self.waiting if run.name not in self.followed]

    def pending(self, run: Run) -> str | None:
        """The launch of which nobody saw a job yet: whoever asked for it died between the two."""
        request = job_of(run.folder).get("request")
        try:
            return request if request and self.client.job_of_request(request) is None else None
        except UserError:
            return None

    def launch(self) -> None:
        """Hand over as many of the waiting as may run at once and as the budget allows."""
        while self.waiting and len(self.followed) < self.parallel and not self.waits_for_first_price():
            if not may_launch(self.budget_usd, list(self.launched)):
                break
            run = self.waiting.pop(0)
            (run.folder / FAILURE).unlink(missing_ok=True)
            try:
                request = self.client.submit(self.task(run))
            except UserError:
                raise
            except Exception as error:
                record_failure(run, f"SkyPilot made no job: {error}")
                continue
            write_machine(run.folder, self.machine, launcher="sky", request=request, job=None, state=WAITING)
            self.follow(FollowedJob(run, request=request))
            print(f"{run.name}: launched", flush=True)
        if not self.followed:
            for run in self.waiting:
                record_failure(
                    run, f"not launched: it could pass cost.budget_usd={self.budget_usd:g}; raise it and start again"
                )
            self.waiting = []

    def waits_for_first_price(self) -> bool:
        """With a budget, one run goes ahead: what it took tells what the others will."""
        return self.budget_usd is not None and bool(self.followed) and not any(map(self.paid, self.launched))

    @staticmethod
    def paid(folder: Path) -> bool:
        return (folder / RESULT).exists() and machine_of(folder) is not None

    def follow(self, followed: FollowedJob) -> None:
        self.followed[followed.run.name] = followed
        self.launched.add(followed.run.folder)

    def look(self) -> None:
        """See what became of the jobs since the last look."""
        try:
            for each in list(self.followed.values()):
                if each.job is None:
                    self.accept(each)
            ids = [each.job for each in self.followed.values() if each.job is not None]
            jobs = {job.id: job for job in self.client.jobs(ids)} if ids else {}
        except UserError:
            raise
        except Exception as error:
            # A laptop that slept, a controller that moves: the jobs go on meanwhile.
            print(f"SkyPilot does not answer ({error}); asking again", file=sys.stderr, flush=True)
            return
        for each in list(self.followed.values()):
            if each.job in jobs:
                self.update(each, jobs[each.job])

    def accept(self, each: FollowedJob) -> None:
        try:
            each.job = self.client.job_of_request(each.request)
        except UserError as error:
            record_failure(each.run, str(error))
            del self.followed[each.run.name]

    def update(self, each: FollowedJob, job: Job) -> None:
        run = each.run
        state = RUNNING if job.state == "RUNNING" else WAITING
        machine = job.machine or machine_of(run.folder) or self.machine
        write_machine(run.folder, machine, launcher="sky", request=None, job=job.id, state=state)
        if (job.state, job.recoveries) != (each.state, each.recoveries):
            times = f", recoveries: {job.recoveries}" if job.recoveries else ""
            where = f" on {job.machine.name}" if job.machine and not job.ended else ""
            print(f"{run.name}: job {job.id} {job.state.lower()}{where}{times}", flush=True)
            each.state, each.recoveries = job.state, job.recoveries
        self.sync.pull(run.name, is_output if job.ended else is_record)
        if job.ended:
            del self.followed[run.name]
            self.end(run, job)

    def end(self, run: Run, job: Job) -> None:
        if run.result():
            # Last, and by nobody else: the machine that trained knows nothing of its price.
            self.sync.replace(run.name, JOB, (run.folder / JOB).read_bytes())
        else:
            words = self.client.last_error(job.id) if job.state.startswith("FAILED") else ""
            reason = words or job.reason or ("it left no result" if job.state == SUCCEEDED else "")
            record_failure(
                run, f"job {job.id} {job.state}{f': {reason}' if reason else ''}; see `sky jobs logs {job.id}`"
            )

    def leave(self) -> None:
        """After Ctrl-C: who sits there says what becomes of the jobs; nobody there, or Ctrl-C again, leaves them."""
        names = ", ".join(f"{each.job or '?'} ({name})" for name, each in self.followed.items())
        if sys.stdin.isatty() and self.followed:
            try:
                if input(f"\nCancel {len(self.followed)} jobs under way? [y/N] ").strip().lower() in ("y", "yes"):
                    self.cancel()
                    sys.exit(130)
            except (KeyboardInterrupt, EOFError):
                pass
        ids = " ".join(str(each.job) for each in self.followed.values() if each.job is not None)
        print(f"\njobs go on: {names or 'none'}", file=sys.stderr)
        if self.followed:
            print(f"the same command follows them again; `sky jobs cancel {ids}` ends them", file=sys.stderr)
        sys.exit(130)

    def cancel(self) -> None:
        for each in self.followed.values():
            while each.job is None:
                each.job = self.client.job_of_request(each.request)
        self.client.cancel([each.job for each in self.followed.values()])
        for each in self.followed.values():
            record_failure(each.run, f"job {each.job} CANCELLED: start the sweep again to go on")
