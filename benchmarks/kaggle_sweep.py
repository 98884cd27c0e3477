"""Train a sweep of nine runs in sessions of a Kaggle on this machine, disturb it, and compare it with a local one.

    python benchmarks/kaggle_sweep.py [folder, default: a temporary one]

Three networks and three learning rates on the embedded sample. One session is cancelled in the middle of its runs, and
the command is killed twice: while sessions run, and while it collects the output of one.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from plant_pathology.kaggle.sweep.payload import IMAGE_FOR_TRAINING
from plant_pathology.kernel import kaggle_image
from support.commands import TINY, run_module, start_module  # needs the path above
from support.handmade import FAST
from support.kaggle_sessions import KaggleSessions, numbers
from support.local_kaggle import environment

EPOCHS = 3
SWEEP = ["-m", *TINY, "model=test_resnet,test_convnext,test_efficientnet", "model.lr=1e-3,3e-3,1e-2"]
SWEEP += [f"trainer.max_epochs={EPOCHS}"]
ON_KAGGLE = ["hydra/launcher=kaggle", "hydra.launcher.accelerator=cpu", "hydra.launcher.sessions=2"]
ON_KAGGLE += [f"submit.{each}" for each in FAST]


def run(folder: Path, module: str, *arguments: str) -> None:
    done = run_module(module, *arguments, cwd=folder)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def killed_when(moment: Callable[[], bool], folder: Path, kaggle: KaggleSessions) -> None:
    """Start the sweep, and kill the command at a moment; the sessions on Kaggle go on."""
    with (folder / "shown.txt").open("a") as shown:
        command = start_module(
            "train", *SWEEP, *ON_KAGGLE, cwd=folder, stdout=subprocess.PIPE, **environment(folder, kaggle)
        )
        while not moment():
            if command.poll() is not None:
                sys.exit(f"the command ended before it was killed: {command.communicate()[0]}")
            time.sleep(0.01)
        os.kill(command.pid, signal.SIGKILL)
        shown.write(command.communicate()[0])


def main(root: Path) -> None:
    local, remote = root / "local", root / "remote"
    local.mkdir()
    for module, *arguments in (["sample"], ["prepare"], ["datastore", "push"]):
        run(local, module, *arguments, *TINY)
    shutil.copytree(local, remote)
    started = time.monotonic()
    run(local, "train", *SWEEP)
    print(f"here: {len(numbers(local))} runs of {EPOCHS} epochs in {time.monotonic() - started:.0f} s", flush=True)
    kaggle_image.IMAGE = (*kaggle_image.IMAGE, *IMAGE_FOR_TRAINING)
    with closing(KaggleSessions(dataset_polls=1, kernel_polls=1)) as kaggle:

        def session(number: int) -> bool | str:
            return len(kaggle.sessions) > number and [*kaggle.sessions.values()][number].log

        def cancelled(log: str) -> bool:
            if f"epoch 2/{EPOCHS}" in log:
                [*kaggle.sessions.values()][1].cancelled = True
            return False

        kaggle.until = {1: cancelled}
        started = time.monotonic()
        killed_when(lambda: f"epoch 1/{EPOCHS}" in (session(1) or ""), remote, kaggle)
        print(f"killed while {len(kaggle.running())} sessions ran", flush=True)
        before = kaggle.requests.count("GET")
        killed_when(lambda: kaggle.requests.count("GET") > before + 3, remote, kaggle)
        print("killed while it collected a session", flush=True)
        run_until_the_end(remote, kaggle)
        seconds = time.monotonic() - started
        for ref, each in kaggle.sessions.items():
            print(f"{ref}: {each.state.lower()}", flush=True)
        pushes = [len(versions) for versions in kaggle.kernels.values()]
        print(
            f"{len(pushes)} sessions, {sum(pushes)} pushes, {len(kaggle.datasets)} datasets, {seconds:.0f} s",
            flush=True,
        )
    here, there = numbers(local), numbers(remote)
    equal = sum(here[name] == there.get(name) for name in here)
    print(f"{equal} of {len(here)} runs have the same score, epochs and weights as here")
    sys.exit(equal != len(here) or len(here) != len(there))


def run_until_the_end(folder: Path, kaggle: KaggleSessions) -> None:
    done = run_module("train", *SWEEP, *ON_KAGGLE, cwd=folder, **environment(folder, kaggle))
    with (folder / "shown.txt").open("a") as shown:
        shown.write(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
