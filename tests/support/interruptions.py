"""Trials of a run's promise: interrupted at any moment and started again, it ends with the digits of one that was not.

The tests run a few; `python benchmarks/interruptions.py` runs thirty.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd

EXACT = ["epoch", "train_loss", "val_loss", "val_f1", "val_threshold"]
# As many batches an epoch as there are moments to be interrupted in.
OVERRIDES = ["name=trial", "trainer.max_epochs=30", "data.batch_size=4", "threads=1"]


def start(root: Path, runs: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "plant_pathology.train", *overrides, *OVERRIDES, f"paths.runs={runs}"]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def same_digits(one: Path, other: Path) -> None:
    first, second = (pd.read_csv(folder / "metrics.csv")[EXACT] for folder in (one, other))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert (one / "validation.csv").read_bytes() == (other / "validation.csv").read_bytes()


def interrupt(root: Path, count: int, seed: int, *overrides: str, reference: Path | None = None) -> str:
    """SIGKILL or SIGTERM at random moments of training, every third while a checkpoint is written, and go on.

    Args:
        reference: the same run, which nobody disturbed; None: it is trained first.
    """
    chance, met = random.Random(seed), Counter()
    undisturbed, runs = root / "undisturbed", root / "interrupted"
    if reference is None:
        start(root, undisturbed, *overrides).communicate()
        (reference,) = undisturbed.glob("trial-*")
    seconds = pd.read_csv(reference / "metrics.csv")["seconds"].sum()
    finished = interruptions = 0
    while interruptions < count or not finished:
        running = start(root, runs, *overrides)
        kind = signal.SIGTERM if interruptions % 2 else signal.SIGKILL
        writing = interruptions % 3 == 2
        if interruptions < count and wait_for_training(running, runs):
            deadline = time.monotonic() + chance.uniform(0, seconds / 2)
            while running.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            while writing and running.poll() is None and not list(runs.glob("trial-*/checkpoints/.*")):
                pass
            if running.poll() is None:
                running.send_signal(kind)
        said, _ = running.communicate()
        if running.returncode == 0:
            (run,) = runs.glob("trial-*")
            same_digits(run, reference)
            shutil.rmtree(run)
            finished += 1
        else:
            assert running.returncode in (-kind, 128 + kind), said
            interruptions += 1
            met[f"{kind.name}{' while writing' if writing else ''}"] += 1
            met["saved in the midst of an epoch"] += ", batch " in said
    return ", ".join(f"{number} {what}" for what, number in met.items()) + f"; {finished} runs finished, same digits"


def wait_for_epochs(running: subprocess.Popen, runs: Path, more: int) -> None:
    """Until a process that was just started saved so many checkpoints."""
    seen = set()
    while running.poll() is None and len(seen) <= more:
        seen |= {path.name for path in runs.glob("trial-*/checkpoints/*.ckpt")}
        time.sleep(0.005)


def wait_for_training(running: subprocess.Popen, runs: Path) -> bool:
    """Until a process that was just started trains; False when it ended before."""
    before = {path: path.stat().st_mtime_ns for path in runs.glob("trial-*/events*")}
    while running.poll() is None:
        now = {path: path.stat().st_mtime_ns for path in runs.glob("trial-*/events*")}
        if now.keys() - before.keys():
            return True
        time.sleep(0.005)
    return False
