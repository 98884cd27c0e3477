"""Submit a sweep's managed jobs and follow them until all have ended: print their state and download their results.

This does not recover a run; SkyPilot does (see launch.py). It recovers itself: if this process dies, the jobs continue,
and the same command finds them again by the names of their runs. A finished run is not launched again.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.runs.cost import Machine, machine_of, may_launch, write_machine
from plant_pathology.runs.finished import DamagedRunError, DivergedError, has_ended, verified_result
from plant_pathology.runs.folder import FAILURE, JOB, RESULT, job_of, record_failure
from plant_pathology.runs.run import Run
from plant_pathology.runs.status import RUNNING, WAITING, Watch
from plant_pathology.runs.sweep_lists import enter_sweep, members, own_sweep
from plant_pathology.runs.sync import RunSync, is_output, is_record
from plant_pathology.sweeps.sky.client import SUCCEEDED, Job, SkyClient
from plant_pathology.sweeps.sky.task import job_name
from plant_pathology.training.run import existing_result


@dataclass
class FollowedJob:
    """A run and its job, as they were last seen.

    Args:
        job: the job's id; None until SkyPilot has created it.
        request: id of the request that creates the job; empty if the job was found by its name.
    """

    run: Run
    job: int | None = None
    request: str = ""
    state: str = "LAUNCHING"
    recoveries: int = 0


class JobFollower:
    """Launch all runs that are neither finished nor launched, and follow them.

    Args:
        runs: by name.
        task: makes SkyPilot's task for a run.
        sync: where the jobs' machines write run folders.
        machine: the requested machine, to show until the real one is known.
        parallel: number of jobs at once; None: all.
        budget_usd: as in `cost.may_launch`.
        poll_s: seconds between two queries of the job queue.
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
        # Runs that the budget covers, including those that a search launched in earlier batches.
        number = own_sweep()
        before = members(sync.runs, number) if number else []
        self.launched: set[Path] = {sync.runs / name for name in before if (sync.runs / name / JOB).exists()}

    def run(self) -> None:
        """Launch and follow until every run has a result.json or a failure.txt, and print what happens meanwhile.

        Raises:
            SystemExit: on Ctrl-C, with the jobs canceled or left running, as the user answers.
        """
        try:
            self.find_existing()
            folders = [run.folder for run in self.waiting] + [each.run.folder for each in self.followed.values()]
            with Watch(folders) as watch:
                self.launch()
                while self.followed:
                    time.sleep(self.poll_s)
                    self.poll()
                    watch.show()
                    self.launch()
                watch.show()
        except KeyboardInterrupt:
            self.leave()

    def find_existing(self) -> None:
        """Find the results and jobs of an earlier start, so that only the other runs stay in `waiting`."""
        for run in self.waiting:
            enter_sweep(run.folder)
            try:
                if existing_result(run, self.sync, is_output):
                    self.launched.add(run.folder)
            except DivergedError as error:
                print(f"{run.name}: failed before: {error}", flush=True)
        self.waiting = [run for run in self.waiting if not has_ended(run.folder)]
        # Requests first: between the two queries a request may become a job, but never the other way round.
        requests = {run.name: request for run in self.waiting if (request := self.pending_request(run))}
        jobs = {job.name: job for job in self.client.jobs()} if self.waiting else {}
        for run in self.waiting:
            if job := jobs.get(job_name(run)):
                self.follow(FollowedJob(run, job.id, requests.get(run.name, "")))
                print(f"{run.name}: continues as job {job.id}", flush=True)
            elif run.name in requests:
                self.follow(FollowedJob(run, request=requests[run.name]))
                print(f"{run.name}: launched before", flush=True)
        self.waiting = [run for run in self.waiting if run.name not in self.followed]

    def pending_request(self, run: Run) -> str | None:
        """Return the request of an earlier start that has not created its job yet; None if there is none."""
        request = job_of(run.folder).get("request")
        try:
            return request if request and self.client.job_of_request(request) is None else None
        except UserError:
            return None

    def launch(self) -> None:
        """Submit as many waiting runs as `parallel` and the budget allow; record a failure for those it excludes."""
        while self.waiting and len(self.followed) < self.parallel and not self.waits_for_first_cost():
            if not may_launch(self.budget_usd, list(self.launched)):
                break
            run = self.waiting.pop(0)
            (run.folder / FAILURE).unlink(missing_ok=True)
            try:
                request = self.client.submit(self.task(run))
            except UserError:
                raise
            except Exception as error:
                record_failure(run.folder, f"SkyPilot created no job: {error}")
                continue
            write_machine(run.folder, self.machine, launcher="sky", request=request, job=None, state=WAITING)
            self.follow(FollowedJob(run, request=request))
            print(f"{run.name}: launched", flush=True)
        if not self.followed:
            for run in self.waiting:
                budget = f"cost.budget_usd={self.budget_usd:g}"
                record_failure(run.folder, f"not launched: it could exceed {budget}; raise it and start again")
            self.waiting = []

    def waits_for_first_cost(self) -> bool:
        """Return whether to launch nothing yet: with a budget, the first run's cost is the estimate for the others."""
        return self.budget_usd is not None and bool(self.followed) and not any(map(self.has_cost, self.launched))

    @staticmethod
    def has_cost(folder: Path) -> bool:
        return (folder / RESULT).exists() and machine_of(folder) is not None

    def follow(self, followed: FollowedJob) -> None:
        self.followed[followed.run.name] = followed
        self.launched.add(followed.run.folder)

    def poll(self) -> None:
        """Query SkyPilot for the state of all jobs, and update each run."""
        try:
            for each in list(self.followed.values()):
                if each.job is None:
                    self.find_job(each)
            ids = [each.job for each in self.followed.values() if each.job is not None]
            jobs = {job.id: job for job in self.client.jobs(ids)} if ids else {}
        except UserError:
            raise
        except Exception as error:
            # A laptop slept, or the controller moves: the jobs continue meanwhile.
            print(f"SkyPilot does not answer ({error}); asking again", file=sys.stderr, flush=True)
            return
        for each in list(self.followed.values()):
            if each.job in jobs:
                self.update(each, jobs[each.job])

    def find_job(self, each: FollowedJob) -> None:
        """Look for the job that a request has created; record a failure if SkyPilot refused the request."""
        try:
            each.job = self.client.job_of_request(each.request)
        except UserError as error:
            record_failure(each.run.folder, str(error))
            del self.followed[each.run.name]

    def update(self, each: FollowedJob, job: Job) -> None:
        """Write the job's machine and state to job.json, print a change, and download what the run has written."""
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
            self.finish(run, job)

    def finish(self, run: Run, job: Job) -> None:
        """Upload job.json of a finished run; record the cause of a failed one."""
        try:
            result = verified_result(run.folder)
        except DamagedRunError as damaged:
            record_failure(run.folder, str(damaged))
            return
        if result:
            # Only this process knows the price, and the training machine no longer writes to the folder.
            self.sync.replace(run.name, JOB, (run.folder / JOB).read_bytes())
        else:
            error = self.client.last_error(job.id) if job.state.startswith("FAILED") else ""
            reason = error or job.reason or ("it left no result" if job.state == SUCCEEDED else "")
            details = f": {reason}" if reason else ""
            record_failure(run.folder, f"job {job.id} {job.state}{details}; see `sky jobs logs {job.id}`")

    def leave(self) -> None:
        """After Ctrl-C, ask whether to cancel the jobs, and exit; without a terminal or an answer, leave them running.

        Raises:
            SystemExit: always, with code 130.
        """
        names = ", ".join(f"{each.job or '?'} ({name})" for name, each in self.followed.items())
        if sys.stdin.isatty() and self.followed:
            try:
                if input(f"\nCancel {len(self.followed)} running jobs? [y/N] ").strip().lower() in ("y", "yes"):
                    self.cancel()
                    sys.exit(130)
            except (KeyboardInterrupt, EOFError):
                pass
        ids = " ".join(str(each.job) for each in self.followed.values() if each.job is not None)
        print(f"\njobs that continue: {names or 'none'}", file=sys.stderr)
        if self.followed:
            print(f"the same command follows them again; `sky jobs cancel {ids}` ends them", file=sys.stderr)
        sys.exit(130)

    def cancel(self) -> None:
        """Cancel all followed jobs, also those that SkyPilot is still creating, and record that as their failure."""
        jobs = {each.run.name: self.wait_for_job(each) for each in self.followed.values()}
        self.client.cancel(list(jobs.values()))
        for each in self.followed.values():
            record_failure(each.run.folder, f"job {jobs[each.run.name]} CANCELLED: start the sweep again to continue")

    def wait_for_job(self, each: FollowedJob) -> int:
        while (job := each.job or self.client.job_of_request(each.request)) is None:
            pass
        return job
