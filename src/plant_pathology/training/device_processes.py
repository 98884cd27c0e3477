"""Train one run on several devices of this machine: one process per device, watched by the one that started them.

Lightning would start the same command again for each device. A run of a sweep has no command of its own, and when one
of Lightning's processes dies, the others are killed with it, and nobody says why.

The process that watches holds the run's lock, and trains nothing itself:
    SIGTERM or Ctrl-C: it passes the signal on; all devices stop after the same step, and one saves the checkpoint. A
        second Ctrl-C kills them.
    A device's process fails or is killed: the others are ended, and the run fails with that one's error.
    It dies itself, even by SIGKILL: its processes notice and end. Each holds the run's lock as well, so that nobody
        else trains the run before the last one is gone.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, reduction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import BaseFileLock
from omegaconf import DictConfig, open_dict

from plant_pathology.core.ending import explain, keep_traceback
from plant_pathology.core.errors import UserError
from plant_pathology.core.processes import when_parent_ends
from plant_pathology.runs.run import Run, run_of
from plant_pathology.runs.sync import sync_of
from plant_pathology.training.processes import PROCESSES, start_fork_server

GRACE = 10.0  # seconds that the others have to end by themselves after one has failed
SAVED = {128 + signal.SIGTERM, 128 + signal.SIGINT}  # exit codes of a process that has saved a checkpoint


class HeldLock:
    """A lock that the processes to which this object is sent hold together: it is free when the last one has ended."""

    def __init__(self, lock: BaseFileLock):
        # flock belongs to the open file, of which the other processes get descriptors.
        descriptor = lock._context.lock_file_fd
        assert descriptor is not None, "it is held"
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _detached, (reduction.DupFd(self.descriptor),)  # type: ignore[attr-defined]  # not on Windows


def _detached(sent: Any) -> int:
    return sent.detach()


def fit_on_devices(run: Run, threads: int, lock: BaseFileLock) -> dict[str, Any]:
    """Train a run on `trainer.devices` devices, and return what `fit` returns.

    Args:
        threads: of the run, which its processes share.
        lock: the run's, which this process holds.

    Raises:
        UserError: a process failed for a reason that a user can change, or was killed.
        SystemExit: on SIGTERM or SIGINT, after saving a checkpoint.
        KeyboardInterrupt: on SIGINT before there was anything to save.
    """
    start_fork_server(run.cfg.logger.name)
    return DeviceProcesses(run.cfg, run.folder).fit(threads, HeldLock(lock))


class DeviceProcesses:
    """The processes of a run, one per device.

    Args:
        cfg: the run's config.
        folder: the run's folder.
    """

    def __init__(self, cfg: DictConfig, folder: Path):
        self.cfg, self.folder = cfg.copy(), folder
        with open_dict(self.cfg):
            self.cfg.pop("hydra", None)
        self.count = int(cfg.trainer.devices)
        self.processes: list[BaseProcess] = []
        self.answers: list[Any] = []  # connections, of which Windows has a class of its own
        self._received: signal.Signals | None = None

    def fit(self, threads: int, lock: HeldLock) -> dict[str, Any]:
        """Train, as `fit_on_devices`."""
        with tempfile.TemporaryDirectory() as folder, self._signals_passed_on():
            for number in range(self.count):
                answer, theirs = PROCESSES.Pipe(duplex=False)
                share = max(1, threads // self.count)
                work = (self.cfg, self.folder.name, share, number, Path(folder, "meeting"), theirs, lock)
                process = PROCESSES.Process(target=fit_in_child, args=work, name=f"device {number + 1}")
                process.start()
                theirs.close()
                self.processes.append(process)
                self.answers.append(answer)
            if self._received:  # while they were started
                self._send(self._received)
            killed = self._wait()
        return self._outcome(killed)

    def _wait(self) -> set[int]:
        """Wait until all have ended; when one has failed, kill those that go on. Return the numbers of the killed."""
        killed: set[int] = set()
        deadline: float | None = None
        while running := [number for number, process in enumerate(self.processes) if process.is_alive()]:
            if deadline is None and any(process.exitcode not in (None, 0, *SAVED) for process in self.processes):
                deadline = time.monotonic() + GRACE
            if deadline is not None and time.monotonic() > deadline:
                killed.update(running)
                self._kill()
            connection.wait([self.processes[number].sentinel for number in running], 1.0)
        return killed

    def _outcome(self, killed: set[int]) -> dict[str, Any]:
        """Return the first device's result, or raise the error of the device that failed first."""
        said = [_message(answer) for answer in self.answers]
        codes = [process.exitcode or 0 for process in self.processes]
        if isinstance(said[0], dict):
            return said[0]
        errors = [each for each in said if isinstance(each, Exception)]
        for error in errors:
            if isinstance(error, UserError):
                raise error
        if saved := [code for code in codes if code in SAVED]:
            raise SystemExit(saved[0])
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received:
            raise SystemExit(128 + self._received)
        for number, code in enumerate(codes):
            if code < 0 and number not in killed:
                name = signal.Signals(-code).name
                memory = ", perhaps because memory ran out" if name == "SIGKILL" else ""
                raise UserError(
                    f"{self.folder}: the process of device {number + 1} of {self.count} was ended by {name}{memory}:"
                    " start it again, and it continues after its last checkpoint"
                )
        # A mistake in the code, in all likelihood of the one that ended first.
        raise errors[0] if errors else RuntimeError(f"the processes of {self.folder} ended with {codes}")

    def _send(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.is_alive() and process.pid:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()

    @contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        """Pass SIGTERM and SIGINT on to the processes; leave none behind."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            again = number == signal.SIGINT == self._received
            self._received = signal.Signals(number)
            if again:
                self._kill()
            else:
                self._send(self._received)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            self._kill()
            for number, handler in before.items():
                signal.signal(number, handler)


def _message(answer: Connection) -> Any:
    """Return what a process that has ended said; None where it said nothing."""
    try:
        return answer.recv() if answer.poll() else None
    except EOFError:
        return None


def fit_in_child(
    cfg: DictConfig, name: str, threads: int, number: int, meeting: Path, answer: Connection, lock: HeldLock
) -> None:
    """Train on one device in this process, and send the result, or the error.

    An answer is short: whoever watches reads it when this process has ended.
    """
    when_parent_ends(lambda: os._exit(1))
    if number:  # the first one speaks for all
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(nowhere.fileno(), stream.fileno())
    try:
        answer.send(_fit(cfg, name, threads, number, meeting))
    except KeyboardInterrupt:
        sys.exit(1)
    except Exception as error:
        answer.send(_portable(error))
        sys.exit(1)


def _fit(cfg: DictConfig, name: str, threads: int, number: int, meeting: Path) -> dict[str, Any]:
    import torch

    from plant_pathology.training.device import Device
    from plant_pathology.training.preload import fit

    device = Device(number, cfg.trainer.devices)
    cuda = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if cuda and torch.cuda.device_count() < device.count:
        raise UserError(
            f"trainer.devices={device.count}: there are {torch.cuda.device_count()} GPUs: lower it, or set"
            " trainer.accelerator=cpu"
        )
    device.join(meeting, cuda, threads)
    run = run_of(cfg)
    if run.name != name:
        raise UserError(f"{name}: its code or weights were changed while it started: start it again")
    result = fit(run, threads, sync_of(cfg) if device.is_first else None, device)
    torch.distributed.destroy_process_group()
    return result


def _portable(error: Exception) -> Exception:
    """Return an error that another process can raise: a line for a user, or a text with the traceback."""
    if isinstance(error, UserError):
        return error
    if line := explain(error):
        kept = keep_traceback(error)
        return UserError(f"{line} (details: {kept})" if kept else line)
    return RuntimeError("".join(traceback.format_exception(error))[-20_000:])
