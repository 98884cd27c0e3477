"""A kernel run as Kaggle runs it: no network, inputs read-only under /kaggle/input, output in /kaggle/working.

Where Linux allows namespaces, the kernel sees a root of its own: the system and the interpreter read-only, the
packages of Kaggle's image, and nothing of this checkout. Elsewhere an audit hook blocks network, other programs and
changes of the inputs. Either way it has no more cores, memory and disk than Kaggle's machine.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.kernel import runner as kernel_runner
from plant_pathology.kernel.kaggle_image import link_image
from plant_pathology.kernel.limits import Limits

KAGGLE = Limits()
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc")
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True)
class Outcome:
    """How a kernel ended.

    Args:
        isolation: what kept it from the network: "namespace" or "audit-hook".
        seconds: wall time, the interpreter's start included.
        peak_memory: resident bytes.
        disk_used: bytes left in /kaggle/working.
        modules: top-level modules that were imported, and their files.
        network: whether a server of this machine could be reached from inside.
        log: all that was printed.
        error: the traceback, "timeout", or "killed" and the log's end; None when the kernel ended well.
    """

    isolation: str
    seconds: float
    peak_memory: int
    disk_used: int
    modules: dict[str, str]
    network: bool
    log: str
    error: str | None


def run_kernel(
    kernel: Path,
    inputs: dict[str, Path],
    working: Path,
    timeout_s: float,
    limits: Limits = KAGGLE,
    isolation: str | None = None,
) -> Outcome:
    """Run the code_file of `kernel`, a folder with kernel-metadata.json.

    Args:
        inputs: folders by their name under /kaggle/input.
        working: becomes /kaggle/working.
        limits: of the machine; its time is for the caller to judge.
        isolation: None takes namespaces where they work, the audit hook elsewhere.

    Raises:
        UserError: the folder is no kernel.
    """
    code = kernel / read_json(kernel / "kernel-metadata.json", "run `python -m plant_pathology.package`")["code_file"]
    if not code.exists():
        raise UserError(f"{code} does not exist, though kernel-metadata.json names it as code_file")
    isolation = isolation or ("namespace" if namespaces_work() else "audit-hook")
    with tempfile.TemporaryDirectory() as scratch, socket.create_server(("127.0.0.1", 0)) as server:
        box = Path(scratch)
        link_image(box / "image")
        settings = {"port": server.getsockname()[1], "cores": limits.cores}
        settings |= {"memory": limits.memory, "disk": limits.disk}
        prepare = in_namespace if isolation == "namespace" else in_process
        command, environment = prepare(box, code, inputs, working, settings)
        started = time.monotonic()
        log, killed = watch(command, environment, working, timeout_s)
        seconds = time.monotonic() - started
        report = box / "report" / "report.json"
        found = json.loads(report.read_text()) if report.exists() else {}
    error = "timeout" if killed else found.get("error", f"killed\n{log[-2000:]}")
    return Outcome(
        isolation=isolation,
        seconds=seconds,
        peak_memory=found.get("peak_memory", 0),
        disk_used=sum(path.stat().st_size for path in working.rglob("*") if path.is_file()),
        modules=found.get("modules", {}),
        network=found.get("network", False),
        log=log,
        error=error,
    )


@cache
def namespaces_work() -> bool:
    """Whether this user may have namespaces of his own, with mounts in them."""
    try:
        trial = [*UNSHARE, "sh", "-c", "mount -t tmpfs none /mnt && mount -t proc none /proc"]
        return subprocess.run(trial, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


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


def python_command(*arguments: str) -> list[str]:
    """The base interpreter without site-packages and the script's folder: only PYTHONPATH adds to its own library."""
    return [sys._base_executable, "-S", "-B", "-P", *arguments]


def in_process(box: Path, code: Path, inputs: dict[str, Path], working: Path, settings: dict[str, Any]):
    """Command and environment of a kernel that an audit hook holds back."""
    for name, folder in inputs.items():
        (box / "input" / name).mkdir(parents=True)
        for entry in folder.iterdir():
            (box / "input" / name / entry.name).symlink_to(entry.resolve())
    (box / "report").mkdir()
    linked = [entry for folder in inputs.values() for entry in links_in(folder)]
    settings = settings | {"read_only": [str(box / "input"), *map(str, [*inputs.values(), *linked])]}
    report = str(box / "report/report.json")
    runner = python_command(kernel_runner.__file__, str(code.resolve()), report, json.dumps(settings))
    return runner, kernel_environment(box / "image", str(box / "input"), str(working.resolve()))


def in_namespace(box: Path, code: Path, inputs: dict[str, Path], working: Path, settings: dict[str, Any]):
    """Command and environment of a kernel in a root of its own."""
    root, report = box / "root", box / "report"
    root.mkdir()
    report.mkdir()
    packages = {str(link.resolve().parent) for link in (box / "image").iterdir()}
    interpreter = {sys.base_prefix, str(Path(sys._base_executable).resolve().parent.parent)}
    read_only = [
        *((path, path) for path in packages | interpreter if not path.startswith("/usr/")),
        (str(box / "image"), "/image"),
        (str(code.resolve().parent), "/kaggle/src"),
        (str(Path(kernel_runner.__file__).resolve()), "/kernel_runner.py"),
        *(mount for name, folder in inputs.items() for mount in mounts_of(folder, f"/kaggle/input/{name}")),
    ]
    script = [
        "set -e",
        f"root={shlex.quote(str(root))}",
        "mount -t tmpfs none $root",
        'own() { if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi;'
        ' mount --bind "$1" "$root$2"; }',
        'show() { own "$1" "$2"; mount -o remount,bind,ro,nosuid,nodev "$root$2"; }',
        f"for name in {' '.join(SYSTEM)}; do",
        '  if [ -L /$name ]; then cp -P /$name "$root/$name"; elif [ -d /$name ]; then show /$name /$name; fi',
        "done",
        "for name in null zero random urandom; do own /dev/$name /dev/$name; done",
        "mkdir -p $root/proc $root/tmp $root/dev/shm && mount -t proc none $root/proc",
        # Before what is shown: a checkout may itself lie below /tmp.
        "mount -t tmpfs none $root/tmp && mount -t tmpfs none $root/dev/shm",
        *(f"show {shlex.quote(source)} {shlex.quote(target)}" for source, target in sorted(read_only)),
        "mkdir -p $root/kaggle/working",
        f"mount -t tmpfs -o size={settings['disk'] // 1024}k none $root/kaggle/working",
        f"own {shlex.quote(str(report))} /report",
        "mount -o remount,ro $root",
        'chroot "$root" /bin/sh -c \'cd /kaggle/working && exec "$@"\' sh "$@" || code=$?',
        f"cp -R $root/kaggle/working/. {shlex.quote(str(working.resolve()))}",
        "exit ${code:-0}",
    ]
    settings = settings | {"read_only": None}
    report_inside = "/report/report.json"
    runner = python_command("/kernel_runner.py", f"/kaggle/src/{code.name}", report_inside, json.dumps(settings))
    command = [*UNSHARE, "sh", "-c", "\n".join(script), "sandbox", *runner]
    return command, kernel_environment(Path("/image"), "/kaggle/input", "/kaggle/working")


def mounts_of(folder: Path, target: str) -> list[tuple[str, str]]:
    """What to mount where, so that an input is seen.

    Of a folder with links in it each entry is mounted by itself, since the folder's mount lacks what they lead to.
    """
    if not links_in(folder):
        return [(str(folder.resolve()), target)]
    return [(str(entry.resolve()), f"{target}/{entry.name}") for entry in folder.iterdir() if entry.exists()]


def links_in(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.is_symlink() and entry.exists()]


def watch(command: list[str], environment: dict[str, str], folder: Path, timeout_s: float) -> tuple[str, bool]:
    """Run to the end or the timeout.

    Returns:
        All that was printed, and whether time ran out.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=timeout_s)[0], False
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        log = process.communicate()[0]
        if isinstance(error, subprocess.TimeoutExpired):
            return log, True
        raise
