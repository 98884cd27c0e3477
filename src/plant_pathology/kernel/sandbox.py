"""Run a kernel as Kaggle does: no network, inputs read-only under /kaggle/input, output in /kaggle/working.

Two ways to isolate it:

- "namespace", where Linux allows user namespaces: the kernel gets a root file system of its own with the system and the
  interpreter read-only, the packages of Kaggle's image, and nothing of this checkout.
- "audit-hook", elsewhere: a hook in the interpreter refuses network, other programs and changes to the inputs. It stops
  a kernel's mistakes, not a kernel that wants to break out.

Either way the kernel gets no more cores, memory and disk than Kaggle's machine has, as far as the system can limit it.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.kernel import runner as kernel_runner
from plant_pathology.kernel.kaggle_image import HERE, Environment, link_image
from plant_pathology.kernel.limits import Machine
from plant_pathology.kernel.links import links_below, mounts_of

KAGGLE = Machine()
# Top-level folders of the system that a kernel sees.
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc")
BUILT = "built"  # a file beside the runner's report: the sandbox stands, and the kernel begins
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child")

# What Kaggle mounts under /kaggle/input, by its way of naming: since 2026, and before, as older kernels still have it.
# Each takes a competition's name and folder, and a dataset's owner/slug and folder.
MOUNTS: dict[str, Callable[[str, Path, str, Path], dict[str, Path]]] = {
    "new": lambda name, raw, ref, folder: {f"competitions/{name}": raw, f"datasets/{ref}": folder},
    "old": lambda name, raw, ref, folder: {name: raw, ref.partition("/")[2]: folder},
}


@dataclass(frozen=True)
class Outcome:
    """The result of one run of a kernel.

    Args:
        isolation: what kept the kernel off the network: "namespace" or "audit-hook".
        isolation_reason: why it was not a namespace; None when it was.
        seconds: wall time, the interpreter's start included.
        peak_memory: resident bytes.
        disk_used: bytes left in /kaggle/working.
        modules: file of each top-level module that was imported.
        network: whether the kernel could reach a server of this machine.
        log: standard output and error.
        error: the traceback, "timeout", or "killed" and the end of the log; None when the kernel succeeded.
    """

    isolation: str
    isolation_reason: str | None
    seconds: float
    peak_memory: int
    disk_used: int
    modules: dict[str, str]
    network: bool
    log: str
    error: str | None

    @property
    def network_off_by(self) -> str:
        """The isolation and, where it is the weaker one, the reason for it."""
        return self.isolation + (f": {self.isolation_reason}" if self.isolation_reason else "")


@dataclass(frozen=True)
class Box:
    """What one run of a kernel is made of, for the isolation that runs it.

    Args:
        folder: for the run's own files.
        copies: for copies of inputs, on their disk where possible.
        code: the notebook or script.
        inputs, working, environment: as for `run_kernel`.
        settings: for the runner.
    """

    folder: Path
    copies: Path
    code: Path
    inputs: dict[str, Path]
    working: Path
    settings: dict[str, Any]
    environment: Environment


def run_kernel(
    kernel: Path,
    inputs: dict[str, Path],
    working: Path,
    timeout_s: float,
    machine: Machine = KAGGLE,
    isolation: str | None = None,
    environment: Environment = HERE,
) -> Outcome:
    """Run the code_file of `kernel`, a folder with kernel-metadata.json.

    Args:
        inputs: folder for each path under /kaggle/input, as MOUNTS names them.
        working: an empty folder that becomes /kaggle/working.
        machine: its cores, memory and disk are enforced.
        isolation: "namespace" or "audit-hook"; None: a namespace where possible.
        environment: the interpreter and packages that the kernel runs with.

    Raises:
        UserError: the code_file or kernel-metadata.json does not exist, or the environment lacks a package.
    """
    code = kernel / read_json(kernel / "kernel-metadata.json", "run `python -m plant_pathology.package`")["code_file"]
    if not code.exists():
        raise UserError(
            f"{code} does not exist, but kernel-metadata.json names it as code_file: run"
            " `python -m plant_pathology.package`"
        )
    run = partial(run_isolated, code, inputs, working, timeout_s, machine, environment)
    reason = f"isolation={isolation} was asked for" if isolation else why_no_namespaces()
    if isolation == "namespace" or not reason:
        try:
            return run("namespace", None)
        except NotBuilt as error:
            reason = f"no sandbox can be built here ({error})"
            if isolation:
                raise UserError(f"isolation={isolation}: {reason}") from error
    return run("audit-hook", reason)


class NotBuilt(Exception):
    """The system did not allow a sandbox; the kernel did not begin."""


def run_isolated(
    code: Path,
    inputs: dict[str, Path],
    working: Path,
    timeout_s: float,
    machine: Machine,
    environment: Environment,
    isolation: str,
    reason: str | None,
) -> Outcome:
    """Run a notebook or script in one isolation; the other arguments are those of `run_kernel` and `Outcome`.

    Raises:
        NotBuilt: a namespace's root file system could not be mounted.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryDirectory(dir=working.parent) as copies,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        folder = Path(scratch)
        link_image(folder / "image", environment)
        settings = {"port": server.getsockname()[1], "cores": machine.cores}
        settings |= {"memory": machine.memory, "disk": machine.disk}
        isolate = in_namespace if isolation == "namespace" else with_audit_hook
        command, variables = isolate(Box(folder, Path(copies), code, inputs, working, settings, environment))
        started = time.monotonic()
        log, timed_out = run_with_timeout(command, variables, working, timeout_s)
        seconds = time.monotonic() - started
        report = folder / "report" / "report.json"
        if isolation == "namespace" and not (timed_out or report.with_name(BUILT).exists()):
            raise NotBuilt(first_line(log))
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    error = "timeout" if timed_out else found.get("error", f"killed\n{log[-2000:]}")
    return Outcome(
        isolation=isolation,
        isolation_reason=reason,
        seconds=seconds,
        peak_memory=found.get("peak_memory", 0),
        disk_used=sum(path.stat().st_size for path in working.rglob("*") if path.is_file()),
        modules=found.get("modules", {}),
        network=found.get("network", False),
        log=log,
        error=error,
    )


@cache
def why_no_namespaces() -> str | None:
    """Return why a kernel cannot be isolated by namespaces here; None where it can."""
    if sys.platform != "linux":
        return f"this system ({sys.platform}) has no network namespaces"
    trial = [*UNSHARE, "sh", "-c", "mount -t tmpfs none /mnt && mount -t proc none /proc"]
    try:
        done = subprocess.run(trial, capture_output=True, text=True)
    except FileNotFoundError:
        return "`unshare` is not installed (package util-linux)"
    if done.returncode == 0:
        return None
    message = first_line(done.stderr)
    return f"this user may not create namespaces ({message or f'unshare ended with {done.returncode}'})"


def first_line(log: str) -> str:
    """Return what `unshare` or `mount` says; advice may follow it."""
    return log.strip().partition("\n")[0]


def python_command(environment: Environment, *arguments: str) -> list[str]:
    """Return a command of an interpreter that imports from its own library and PYTHONPATH alone.

    -S leaves out site-packages, -P the script's folder (Python before 3.11 cannot), -B writes no bytecode.
    """
    safe_path = [] if environment.version.startswith("3.10.") else ["-P"]
    return [environment.python, "-S", "-B", *safe_path, *arguments]


def kernel_environment(image: Path, inputs: str, working: str) -> dict[str, str]:
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": working,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(image),
        "PYTHONUNBUFFERED": "1",
        "KAGGLE_INPUT": inputs,
        "KAGGLE_WORKING": working,
    }


def with_audit_hook(box: Box) -> tuple[list[str], dict[str, str]]:
    """Return command and environment that run the kernel in this file system, restricted by the runner's audit hook."""
    folder = box.folder
    for name, given in box.inputs.items():
        (folder / "input" / name).mkdir(parents=True)
        for entry in given.iterdir():
            (folder / "input" / name / entry.name).symlink_to(entry.resolve())
    (folder / "report").mkdir()
    links = [link for given in box.inputs.values() for link in links_below(given)]
    # A folder of many linked files is protected as one, unless it holds what the kernel writes.
    writable = {*folder.resolve().parents, *box.working.resolve().parents}
    linked = {link if link.is_dir() or (parent := link.resolve().parent) in writable else parent for link in links}
    settings = box.settings | {"read_only": [str(folder / "input"), *map(str, [*box.inputs.values(), *linked])]}
    report = str(folder / "report/report.json")
    runner = python_command(
        box.environment, kernel_runner.__file__, str(box.code.absolute()), report, json.dumps(settings)
    )
    return runner, kernel_environment(folder / "image", str(folder / "input"), str(box.working.resolve()))


def in_namespace(box: Box) -> tuple[list[str], dict[str, str]]:
    """Return command and environment that run the kernel in namespaces, with a root file system of its own."""
    root, report = box.folder / "root", box.folder / "report"
    root.mkdir()
    report.mkdir()
    packages = {str(link.resolve().parent) for link in (box.folder / "image").iterdir()}
    interpreter = {box.environment.prefix, str(Path(box.environment.python).resolve().parent.parent)}
    read_only = [
        *((path, path) for path in sorted(packages | interpreter) if not path.startswith("/usr/")),
        (str(box.folder / "image"), "/image"),
        *mounts_of(box.code.parent, "/kaggle/src", box.copies),
        (str(Path(kernel_runner.__file__).resolve()), "/kernel_runner.py"),
        *(each for name, at in box.inputs.items() for each in mounts_of(at, f"/kaggle/input/{name}", box.copies)),
    ]
    script = [
        "set -e",
        f"root={shlex.quote(str(root))}",
        "mount -t tmpfs none $root",
        # With what is mounted in it: a container's /etc/hosts, or another disk.
        'bind() { if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi;'
        ' mount --rbind "$1" "$root$2"; }',
        f"for name in {' '.join(SYSTEM)}; do",
        '  if [ -L /$name ]; then cp -P /$name "$root/$name"; elif [ -d /$name ]; then bind /$name /$name; fi',
        "done",
        # Before the inputs: a checkout may itself be below /tmp.
        "mkdir -p $root/tmp && mount -t tmpfs none $root/tmp",
        *(f"bind {shlex.quote(source)} {shlex.quote(target)}" for source, target in read_only),
        # All of that is read-only. mountinfo writes a space as \040.
        "mounts=$(cat /proc/self/mountinfo)",
        "while read -r _ _ _ _ at _; do",
        '  at=$(printf %b "$at")',
        '  case "$at" in "$root/tmp") continue ;; "$root"/*) ;; *) continue ;; esac',
        '  mount -o remount,bind,ro,nosuid,nodev "$at"',
        "done <<EOF",
        "$mounts",
        "EOF",
        "for name in null zero random urandom; do bind /dev/$name /dev/$name; done",
        "mkdir -p $root/proc $root/dev/shm && mount -t proc none $root/proc && mount -t tmpfs none $root/dev/shm",
        "mkdir -p $root/kaggle/working",
        f"mount -t tmpfs -o size={box.settings['disk'] // 1024}k none $root/kaggle/working",
        f"bind {shlex.quote(str(report))} /report",
        # bind: as a mount, and not as a file system, whose owner may have no number in here.
        "mount -o remount,bind,ro $root",
        f"touch $root/report/{BUILT}",
        'chroot "$root" /bin/sh -c \'cd /kaggle/working && exec "$@"\' sh "$@" || code=$?',
        f"cp -R $root/kaggle/working/. {shlex.quote(str(box.working.resolve()))}",
        "exit ${code:-0}",
    ]
    settings = box.settings | {"read_only": None}
    report_inside = "/report/report.json"
    runner = python_command(
        box.environment, "/kernel_runner.py", f"/kaggle/src/{box.code.name}", report_inside, json.dumps(settings)
    )
    command = [*UNSHARE, "sh", "-c", "\n".join(script), "sandbox", *runner]
    return command, kernel_environment(Path("/image"), "/kaggle/input", "/kaggle/working")


def run_with_timeout(
    command: list[str], environment: dict[str, str], folder: Path, timeout_s: float
) -> tuple[str, bool]:
    """Run a command in a process group of its own, and kill the group on a timeout or any other exception.

    Returns:
        Its output, and whether it timed out.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=timeout_s)[0], False
    except BaseException as error:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        log = process.communicate()[0]
        if isinstance(error, subprocess.TimeoutExpired):
            return log, True
        raise
