"""Run the project's command lines in processes of their own, and compose its config."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from support import preloaded
from support.checkout import PROJECT

ABSENT = Path(__file__).with_name("absent")


def run_module(module: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run `python -m plant_pathology.<module>` in `cwd`."""
    with start_module(
        module, *arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment
    ) as running:
        out, err = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


def start_module(
    module: str,
    *arguments: str,
    cwd: Path,
    stdout: int | None = None,
    stderr: int | None = None,
    **environment: str,
) -> subprocess.Popen | preloaded.Command:
    """Start `python -m plant_pathology.<module>` in `cwd`, if possible in a process with torch imported already."""
    environment = os.environ | environment
    if preloaded.is_possible(environment):
        return preloaded.Command(f"plant_pathology.{module}", arguments, cwd, environment, stdout, stderr)
    command = [sys.executable, "-m", f"plant_pathology.{module}", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=stdout, stderr=stderr, text=True)


def on_a_small_disk(
    module: str, *arguments: str, cwd: Path, kilobytes: int, afterwards: str
) -> subprocess.CompletedProcess:
    """Run a module as `run_module` does, with `cwd`/small on a disk of that size, then the command `afterwards`.

    The disk is mounted in a Linux namespace of its own; without namespaces the test is skipped.
    """
    command = shlex.join([sys.executable, "-m", f"plant_pathology.{module}", *arguments])
    program = f"mkdir small && mount -t tmpfs -o size={kilobytes}k none small && {command}; code=$?"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{program}; {afterwards}; exit $code"],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"needs a namespace to mount a small disk in: {done.stderr.strip()}")
    return done


def config(*overrides: str) -> DictConfig:
    """Compose conf/ as the command line does, by default for the embedded sample."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose("config", ["competition=sample", "machine=cpu", "recipe=ours", *overrides])


TINY = [
    "competition=sample",
    "recipe=ours",
    "prepare.image_size=32",
    "model=test_resnet",
    "trainer.max_epochs=2",
    "data.batch_size=16",
    "threads=1",
]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def run_in(project: Path, *command: str, expect: int = 0) -> str:
    """Run a command as a user of that checkout would, check its exit code, and return its output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": f"src:{ABSENT}"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def git(project: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false")
    return run_in(project, "git", *identity, *arguments).strip()
