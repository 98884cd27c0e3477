"""Run a sweep's sessions on Kaggle: push each as a kernel, follow it, collect its output, and continue from that.

Every step is on disk before the next one, below runs/.kaggle/, so that a command that was killed goes on where it was:

    <name>/session.json: the session's kernel and runs; it is open until its output is collected.
    <name>/submission/: what is pushed. A kernel's name ends in a hash of it, so that the same work is never pushed
        twice, not even from another checkout: a kernel of that name with this source is the session.
    <name>/journal.json: of push.py, which finds out whether an interrupted push arrived.
    <name>/output/: what is downloaded, until it is all here. <name>/log.txt: the session's log.

A run that a session left unfinished goes into a later one, as long as each session brings some run further.
"""

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, read_json, write_json
from plant_pathology.core.hashes import content_hash
from plant_pathology.core.schema import CPU
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import AGAIN, Journal
from plant_pathology.kaggle.progress import Absent, TimedOut, show, wait_until_done
from plant_pathology.kaggle.push import Push, kernel_version_of, log_text
from plant_pathology.kaggle.sweep.collect import download, is_further, latest_point, merge
from plant_pathology.kaggle.sweep.options import KaggleOptions
from plant_pathology.kaggle.sweep.payload import IMPORTS, Parcel, state_parcel
from plant_pathology.kaggle.sweep.plan import LAUNCHER, loads_of, plan_of
from plant_pathology.kaggle.sweep.script import session_script
from plant_pathology.kaggle.sweep.session import SESSION, Session
from plant_pathology.kernel.build import default_slug, title_of
from plant_pathology.kernel.package import Package
from plant_pathology.runs.cost import Machine, write_machine
from plant_pathology.runs.finished import has_ended
from plant_pathology.runs.folder import FAILURE, record_failure
from plant_pathology.runs.run import Run
from plant_pathology.runs.status import RUNNING, WAITING

BUSY = r"session count"  # in Kaggle's refusal of a kernel while the account's sessions are all in use
ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")


@dataclass
class Sessions:
    """All sessions of a sweep.

    Args:
        runs: those that are to be trained, by name.
        root: runs/.kaggle.
        code, data: what each session needs besides the state of its runs.
        settings: `submit:` of the config.
    """

    kaggle: Kaggle
    runs: dict[str, Run]
    options: KaggleOptions
    root: Path
    code: Parcel
    data: Parcel
    settings: DictConfig
    open: list[Session] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)  # runs that failed since this command began

    def run(self) -> None:
        """Push, follow and collect sessions until every run has finished or failed.

        Raises:
            UserError: Kaggle refuses a step, or a session's dataset or kernel is not what was sent.
        """
        self.find_existing()
        while True:
            for session in list(self.open):
                if session.journal.get("kernel"):
                    self.follow(session)
            waiting = [run for run in self.unfinished() if not any(run.name in each.runs for each in self.open)]
            if not waiting and not self.open:
                return
            while waiting and len(self.open) < self.options.sessions:
                waiting = self.plan_next(waiting)
            for session in self.open:
                if not session.journal.get("kernel") and not self.push(session):
                    break
            time.sleep(self.settings.poll_s)

    def unfinished(self) -> list[Run]:
        return [run for run in self.runs.values() if run.name not in self.ended and not has_ended(run.folder)]

    def find_existing(self) -> None:
        """Find the sessions of an earlier start; forget those that it planned and never tried to push.

        Raises:
            UserError: one is of another account.
        """
        for path in sorted(self.root.glob(f"*/{SESSION}")):
            if (session := Session.read(path.parent)) is None:
                continue
            if not {"kernel", "kernel_before"} & session.journal.noted.keys():
                shutil.rmtree(path.parent)
                continue
            owner = session.kernel.partition("/")[0]
            if owner.lower() != self.kaggle.user.lower():
                raise UserError(
                    f"{session.kernel} trains runs of this sweep and is {owner}'s, but the token is of the account"
                    f" {self.kaggle.user}: use {owner}'s token, or give up what it trained: delete {session.folder}"
                )
            self.open.append(session)
            show("session", f"{session.kernel}: goes on, {', '.join(session.runs)}")

    def plan_next(self, waiting: list[Run]) -> list[Run]:
        """Write the next session to disk, and return the runs that are in none.

        Unless it is the last one, a session is full: no run waits for a card that is free.
        """
        plan = plan_of(loads_of(waiting, self.options), self.options)
        chosen = [self.runs[load.name] for load in plan.sessions[0]]
        state = state_parcel(self.root, self.kaggle.user, self.competition, chosen)
        for each in filter(None, (self.data, self.code, state)):
            each.upload(self.push_of)
        self.open.append(self.write_session(chosen, state))
        return [run for run in waiting if run not in chosen]

    @property
    def competition(self) -> str:
        return next(iter(self.runs.values())).cfg.competition.name

    def push_of(self, package: Package, journal: Journal) -> Push:
        return Push(self.kaggle, package, journal, self.settings)

    def write_session(self, chosen: Sequence[Run], state: Parcel | None) -> Session:
        """Write the folder of a session with these runs, longest first."""
        parcels = [each.ref for each in (self.data, self.code, state) if each]
        plan = {
            "data": self.data.ref,
            "code": self.code.ref,
            "state": state and state.ref,
            "imports": IMPORTS,
            "runs": [{"name": run.name, "config": portable(run)} for run in reversed(chosen)],
            "cards": self.options.cards,
            "seconds": 3600 * self.options.session_h,
            # A session that begins with the same state as an earlier one is another session.
            "attempt": self.attempts(chosen[0]),
        }
        text = session_script(plan)
        slug = default_slug(self.competition, f"sweep-{content_hash({'session.py': text})[:8]}")
        ref, pretrained = f"{self.kaggle.user}/{slug}", any(run.cfg.model.pretrained for run in chosen)
        metadata = {
            "id": ref,
            "title": title_of(ref),
            "code_file": "session.py",
            "language": "python",
            "kernel_type": "script",
            "is_private": True,
            "enable_gpu": self.options.accelerator != CPU,
            "enable_tpu": False,
            "enable_internet": pretrained,  # timm's weights come from there
            "keywords": [],
            "dataset_sources": parcels,
            "competition_sources": [],
            "kernel_sources": [],
            "model_sources": [],
        }
        if self.options.accelerator != CPU:
            metadata["machine_shape"] = self.options.accelerator
        begins = {run.name: latest_point(run.folder) for run in chosen}
        session = Session(self.root / slug, ref, list(begins), metadata, begins)
        with atomic_folder(session.folder / "submission") as work:
            (work / "session.py").write_text(text, encoding="utf-8")
            write_json(work / "kernel-metadata.json", metadata)
        session.write()
        for run in chosen:
            (run.folder / FAILURE).unlink(missing_ok=True)
            self.note(run, session, WAITING)
        return session

    def attempts(self, run: Run) -> int:
        """Return the number of sessions so far that a run was in."""
        notes = (read_json(path, f"delete {path.parent}") for path in self.root.glob(f"*/{SESSION}"))
        return sum(run.name in noted["runs"] for noted in notes)

    def push(self, session: Session) -> bool:
        """Push a session's kernel; return False where the account's sessions are in use, so that it waits.

        Raises:
            UserError: Kaggle refuses it for another reason, or has another kernel of this name.
        """
        push = self.push_of(session.package, session.journal)
        if found := push.after_interruption(
            lambda: self.kaggle.kernel(session.kernel), kernel_version_of, "kernel_before"
        ):
            if not push.is_our_source(found.blob.source):
                raise UserError(
                    f"{session.kernel}: there is a kernel of this name that this sweep did not push: delete it on"
                    f" https://www.kaggle.com/code/{session.kernel}, then {AGAIN}"
                )
            push.journal.note(kernel=kernel_version_of(found) or 1)  # 0: Kaggle does not report the number
            return True
        try:
            push.push_kernel()
        except UserError as error:
            if re.search(BUSY, str(error), re.IGNORECASE):
                if not session.state:
                    self.show_state(session, f"waits: the account's sessions are in use{self.holders()}")
                return False
            if "did not attach" in str(error):
                # Deleted there: to be uploaded again.
                for ref in session.metadata["dataset_sources"]:
                    shutil.rmtree(self.root / ref.partition("/")[2], ignore_errors=True)
                session.write(closed="without its datasets")
                raise UserError(f"{error}: {AGAIN}, and uploads its datasets again") from None
            raise
        return True

    def holders(self) -> str:
        """Name the account's kernels that run now, for an error message; "" where Kaggle does not tell."""
        try:
            running = self.kaggle.running_kernels()
        except UserError:
            return ""
        return f" by {', '.join(running)}" if running else ""

    def follow(self, session: Session) -> None:
        """Show what is new of a session, and collect it when it has ended."""
        try:
            state, reason = self.kaggle.kernel_state(session.kernel)
            session.absent_since = None
        except Absent as error:
            session.absent_since = session.absent_since or time.monotonic()
            if time.monotonic() - session.absent_since < self.settings.settle_s:
                return
            raise UserError(
                f"the session {session.kernel} is not on Kaggle any more ({error}): delete {session.folder}, and its"
                " runs are trained in another one"
            ) from None
        self.show_state(session, state.lower())
        if state in ENDED:
            self.collect(session, state, reason)
        elif state == "RUNNING":
            self.show_log(session)

    def show_state(self, session: Session, state: str) -> None:
        if session.state != state:
            show("session", f"{session.kernel}: {state}")
            session.state = state
            for name in session.runs:
                if (run := self.runs.get(name)) and state == "running":
                    self.note(run, session, RUNNING)

    def show_log(self, session: Session) -> None:
        """Print the lines of a running session's log that are new, as far as Kaggle gives it."""
        try:
            _, log = self.kaggle.kernel_output(session.kernel)
        except UserError:
            return
        lines = log_text(log, last=None).splitlines()
        for line in lines[session.shown :]:
            print(f"  {line}", flush=True)
            for name in session.runs:
                if line.startswith(f"{name}: ") and name in self.runs:
                    self.note(self.runs[name], session, RUNNING, line.removeprefix(f"{name}: "))
        session.shown = len(lines)

    def note(self, run: Run, session: Session, state: str | None, news: str = "") -> None:
        """Write job.json, which `monitor status` shows.

        Args:
            state: None: the session has ended.
            news: the last line of the log about the run.
        """
        machine = Machine(f"{self.options.accelerator} on Kaggle", spot=False, usd_per_hour=0.0)
        job = {"launcher": LAUNCHER, "job": session.kernel} | ({"state": state, "news": news} if state else {})
        write_machine(run.folder, machine, **job)

    def collect(self, session: Session, state: str, reason: str) -> None:
        """Download what a session wrote, merge it into the runs' folders, and close the session."""
        output = session.folder / "output"
        log = self.download(session, output, state)
        (session.folder / "log.txt").write_text(log, encoding="utf-8")
        for name in session.runs:
            merge(output / name, self.root.parent / name)
        further = [name for name, before in session.begins.items() if is_further(self.root.parent / name, before)]
        for name in session.runs:
            if (run := self.runs.get(name)) is None:
                continue
            self.note(run, session, None)
            if (run.folder / FAILURE).exists():
                self.ended.add(name)
            elif not further and not has_ended(run.folder):
                last = next((line for line in reversed(log.splitlines()) if line.strip()), "no log")
                cause = f"the session {session.kernel} brought no run further ({state.lower()}): {reason or last}"
                record_failure(run.folder, f"{cause}; its log is {session.folder / 'log.txt'}")
                self.ended.add(name)
        session.write(closed=state.lower())
        show("collected", f"{session.kernel}: {len(further)} of {len(session.runs)} runs came further")
        shutil.rmtree(output, ignore_errors=True)
        self.open.remove(session)

    def download(self, session: Session, output: Path, state: str) -> str:
        """Download the output of a session's runs, and return its log; Kaggle may keep none of one that failed."""
        files: dict[str, str] = {}
        log = ""

        def look() -> tuple[str, bool]:
            nonlocal files, log
            try:
                files, log = self.kaggle.kernel_output(session.kernel)
            except Absent:
                if state == "COMPLETE":
                    raise
            return "no output listed yet", bool(files) or state != "COMPLETE"

        try:
            wait_until_done("output", look, self.settings.settle_s, self.settings)
        except TimedOut:
            show("output", f"{session.kernel}: Kaggle lists no files")
        download(self.kaggle, files, session.runs, output)
        return log_text(log, last=None)


def portable(run: Run) -> dict[str, Any]:
    """Return a run's config without what is of this machine or secret."""
    keys = [str(key) for key in run.cfg if key != "hydra"]
    content: Any = OmegaConf.to_container(OmegaConf.masked_copy(run.cfg, keys), resolve=True)
    content["data"]["ref"] = run.version.ref
    content["store"] |= {"uri": "", "endpoint_url": None}
    # Trackers need a key, which does not travel.
    if content["logger"]["name"] not in ("csv", "tensorboard"):
        content["logger"] = {"name": "csv"}
    content["paths"] = {name: "." for name in content["paths"]}
    return content
