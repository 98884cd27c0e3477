"""A local Kaggle on which pushed kernels run at once, in the rehearsal's sandbox, as sessions of an account.

A session's inputs are mounted at /kaggle/input/datasets/<owner>/<slug>; it has no network and no package but those of
Kaggle's image.
"""

import ast
import json
import os
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from plant_pathology.kernel.kaggle_image import HERE, link_image
from plant_pathology.kernel.sandbox import Box, in_namespace
from support.local_kaggle import LocalKaggle, Refused, Run, ref_of

BUSY = "Maximum batch GPU session count of {} reached."


@dataclass
class Session:
    """A kernel that runs, or has run.

    Args:
        until: of the log so far, whether the session is to end now as one that Kaggle ends.
        disk: bytes of /kaggle/working.
    """

    run: Run
    until: Callable[[str], bool]
    disk: int = 10**9
    state: str = "RUNNING"
    log: str = ""
    output: dict[str, bytes] = field(default_factory=dict)
    cancelled: bool = False

    def start(self) -> None:
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Run the kernel; an error of this server ends the session, too: what waits for it would wait forever."""
        try:
            self.state = self.run_kernel()
        except Exception:
            self.log, self.state = traceback.format_exc(), "ERROR"

    def run_kernel(self) -> str:
        """Run the kernel in a sandbox until it ends or is ended, and return the session's last state."""
        with tempfile.TemporaryDirectory() as scratch:
            box = Path(scratch)
            code, working, log = box / "kernel" / "session.py", box / "working", box / "log"
            code.parent.mkdir()
            working.mkdir()
            code.write_text(self.run.saved["text"])
            link_image(box / "image")
            inputs = {}
            for ref, files in self.run.datasets.items():
                inputs[f"datasets/{ref}"] = folder = box / "inputs" / ref
                folder.mkdir(parents=True)
                for name, content in files.items():
                    (folder / name).write_bytes(content)
            settings = {"port": 9, "cores": 4, "memory": 29 * 10**9, "disk": self.disk}
            command, environment = in_namespace(Box(box, box, code, inputs, working, settings, HERE))
            with log.open("w") as out:
                process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
            while process.poll() is None:
                self.log = log.read_text()
                if self.cancelled or self.until(self.log):
                    kill_programs(process.pid)
                    process.wait()
                    break
                time.sleep(0.02)
            self.log = log.read_text()
            files = (path for path in working.rglob("*") if path.is_file())
            self.output = {path.relative_to(working).as_posix(): path.read_bytes() for path in files}
        if self.cancelled:
            return "CANCEL_ACKNOWLEDGED"
        return "ERROR" if process.returncode else "COMPLETE"


def kill_programs(pid: int) -> None:
    """Kill all of a sandbox but the shell that copies its output: what Kaggle keeps of a session that it ends."""
    for each in psutil.Process(pid).children(recursive=True):
        if each.name().startswith("python") and os.getpid() != each.pid:
            each.kill()


def plan_in(script: str) -> dict[str, Any]:
    """Return the plan that a session's script holds."""
    line = next(line for line in script.splitlines() if line.startswith("PLAN = "))
    return json.loads(ast.literal_eval(line.removeprefix("PLAN = json.loads(").removesuffix(")")))


def numbers(root: Path) -> dict[str, dict]:
    """Return what a sweep's runs measured, without times."""
    found = {}
    for path in sorted(root.glob("runs/*/result.json")):
        content = json.loads(path.read_text())
        rows = [line.split(",")[:4] for line in (path.parent / "metrics.csv").read_text().splitlines()]
        weights = content["files"]["best.ckpt"]
        found[path.parent.name] = {"score": content["score"], "rows": rows, "weights": weights}
    return found


@dataclass
class KaggleSessions(LocalKaggle):
    """LocalKaggle with sessions.

    Args:
        limit: sessions at once.
        until: by the number of a pushed kernel, from 0, when its session is to be ended.
        disks: by the number of a pushed kernel, how many bytes its session may keep, if not a billion.
        held: kernels of the account that run all the time.
        died: points at which a command was killed, to kill one at every point that is not there yet; None: kill none.
        replay: for each pushed kernel, instead of running it: from the names of its runs to its last state and output.
    """

    limit: int = 2
    until: dict[int, Callable[[str], bool]] = field(default_factory=dict)
    disks: dict[int, int] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    replay: list[Callable[[list[str]], tuple[str, dict[str, bytes]]]] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    most: int = 0
    died: set[tuple[int, str, bool]] | None = None

    def running(self) -> list[str]:
        return [*self.held, *(ref for ref, each in self.sessions.items() if each.state == "RUNNING")]

    def is_kill_point(self, after):
        """Kill at each kind of request once for each session, and after it too where it changes something.

        Not at those that leave nothing behind, here or on Kaggle, that the request before them has not left.
        """
        point = (len(self.sessions), self.requests[-1], after)
        if self.died is None or point in self.died or point[1] in ("GetDataset", "StartBlobUpload", "PUT"):
            return False
        if after and not point[1].startswith(("Create", "Save", "GET")):
            return False
        self.died.add(point)
        return True

    def SaveKernel(self, asked):
        if len(self.running()) >= self.limit:
            return {"error": BUSY.format(self.limit)}
        answer = super().SaveKernel(asked)
        ref = asked["slug"]
        if self.kernels[ref][1:]:
            raise AssertionError(f"{ref} was pushed twice")
        run = self.kernels[ref][-1]
        number = len(self.sessions)
        self.sessions[ref] = Session(run, self.until.get(number, lambda log: False), self.disks.get(number, 10**9))
        if self.replay:
            session, names = self.sessions[ref], [run["name"] for run in plan_in(run.saved["text"])["runs"]]
            session.state, session.output = self.replay[len(self.sessions) - 1](names)
            session.log = "replayed\n"
        else:
            self.sessions[ref].start()
        self.most = max(self.most, len(self.running()))
        return answer

    def ListKernels(self, asked):
        return {"kernels": [{"ref": ref} for ref in [*self.held, *self.sessions]]}

    def GetKernelSessionStatus(self, asked):
        if ref_of(asked) in self.held:
            return {"status": "RUNNING"}
        self.kernel_of(asked)
        session = self.sessions[ref_of(asked)]
        return {"status": session.state} | ({"failureMessage": "it was ended"} if session.state == "ERROR" else {})

    def ListKernelSessionOutput(self, asked):
        self.kernel_of(asked)
        ref = ref_of(asked)
        session = self.sessions[ref]
        if session.state == "ERROR" and self.no_logs:
            raise Refused(403, "Permission 'kernelSessions.get' was denied")
        self.kernels[ref][-1].output = session.output
        names = sorted(session.output)
        start = int(asked.get("pageToken") or 0)
        files = [{"fileName": n, "url": f"http://localhost/output/{ref}/{n}"} for n in names[start : start + 20]]
        more = {"nextPageToken": str(start + 20)} if start + 20 < len(names) else {}
        return {"files": files, "log": json.dumps([{"stream_name": "stdout", "data": session.log}]), **more}
