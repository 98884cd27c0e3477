"""Run the project's command lines in processes forked from one that has imported torch: a test need not wait for it.

Each command still runs in a process of its own, from `__main__` to its exit code, with its own output and signals.
"""

import atexit
import multiprocessing.process
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import IO

import pytest

MODULES = [
    "hydra",
    "omegaconf",
    "pandas",
    "sklearn.model_selection",
    "plant_pathology.training.preload",
    "plant_pathology.inference.predictor",
    "plant_pathology.data.pipeline",
    "plant_pathology.data.plots",
    "plant_pathology.selection.pipeline",
    "plant_pathology.kernel.rehearsal",
    "kagglesdk",
    "bleach",  # of the kaggle client, which itself sends a request when it is imported
]
# What libraries read when they are imported: where it differs, a command needs a fresh interpreter.
READ_AT_IMPORT = ("PYTHON", "OMP_", "MKL_", "HF_", "TORCH", "LC_", "LANG", "MPL", "CUDA", "KMP_", "LD_")
PROCESSES = get_context("forkserver")


class Command:
    """A running command, with the part of `subprocess.Popen` that tests use.

    Args:
        module: to run as `python -m <module>`.
        stdout, stderr: as for `Popen`: PIPE, STDOUT, or None for the output of this process.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        stdout: int | None = None,
        stderr: int | None = None,
    ):
        self.args = [module, *arguments]
        self.stdout, out = pipe(stdout, sys.__stdout__)
        if stderr == subprocess.STDOUT:
            self.stderr, err = None, duplicate(out.fileno())
        else:
            self.stderr, err = pipe(stderr, sys.__stderr__)
        forkserver.set_forkserver_preload(MODULES)
        work = (module, list(arguments), str(cwd), dict(environment), out, err)
        self._process = PROCESSES.Process(target=run_as_main, args=work)
        with pytest.MonkeyPatch.context() as patch:
            # The process gets our sys.path, which PYTHONPATH did not make.
            patch.setattr(sys, "path", [*environment.get("PYTHONPATH", "").split(os.pathsep), *sys.path])
            self._process.start()
        out.close()
        err.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Read all output, and wait for the end."""
        texts: list[str | None] = [None, None]

        def read(number: int, stream: IO[str]) -> None:
            texts[number] = stream.read()

        streams = [(number, stream) for number, stream in enumerate((self.stdout, self.stderr)) if stream]
        readers = [Thread(target=read, args=each, daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
        self.wait(timeout)
        if any(reader.is_alive() for reader in readers):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()


def pipe(wanted: int | None, ours: IO[str]) -> tuple[IO[str] | None, Connection]:
    """Return where to read a command's output, None if it goes to `ours`, and where the command writes it."""
    if wanted != subprocess.PIPE:
        return None, duplicate(ours.fileno())
    read, write = os.pipe()
    return os.fdopen(read, encoding="utf-8", errors="replace"), Connection(write, readable=False)


def duplicate(descriptor: int) -> Connection:
    """Return what carries a copy of a file's descriptor into another process."""
    return Connection(os.dup(descriptor), readable=False)


def is_possible(environment: Mapping[str, str]) -> bool:
    """Return whether a command with this environment may be forked from one that was imported with ours."""
    own = _preloaded_environment()
    names = {name for name in own.keys() | environment.keys() if name.startswith(READ_AT_IMPORT)}
    return sys.platform == "linux" and all(own.get(name) == environment.get(name) for name in names)


def _preloaded_environment(kept: dict[str, str] = {}) -> Mapping[str, str]:  # noqa: B006  # the one that it started with
    if not kept:
        kept.update(os.environ)
    return kept


def run_as_main(
    module: str, arguments: list[str], cwd: str, environment: dict[str, str], out: Connection, err: Connection
) -> None:
    """Run a module in this process as `python -m` would."""
    for number, connection in ((1, out), (2, err)):
        os.dup2(connection.fileno(), number)
        connection.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # As for a command that a shell starts: nothing to find out about a parent.
    multiprocessing.process._parent_process = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
