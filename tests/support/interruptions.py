"""Interrupt runs at random moments, and check that they end with the same numbers as an undisturbed run.

The tests interrupt a few times; `python benchmarks/interruptions.py` thirty times.
"""

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from support.commands import start_module
from support.preloaded import Command

EXACT = ["epoch", "train_loss", "val_loss", "val_score", "val_sample_f1", "val_threshold"]
# Small batches: many moments in an epoch at which a run can be interrupted.
OVERRIDES = ["name=trial", "trainer.max_epochs=30", "data.batch_size=4", "threads=1"]


def start(root: Path, runs: Path, *overrides: str) -> subprocess.Popen | Command:
    """Start the run below the folder `runs` in another process."""
    arguments = [*overrides, *OVERRIDES, f"paths.runs={runs}"]
    return start_module("train", *arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def assert_same_numbers(one: Path, other: Path) -> None:
    """Compare metrics exactly, and predictions byte by byte."""
    first, second = (pd.read_csv(folder / "metrics.csv")[EXACT] for folder in (one, other))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert (one / "validation.npz").read_bytes() == (other / "validation.npz").read_bytes()


def interrupt(root: Path, count: int, seed: int, *overrides: str, reference: Path | None = None) -> str:
    """Send SIGKILL and SIGTERM at random moments of training, every third while a checkpoint is written; restart.

    Args:
        root: a folder with pushed data.
        count: number of interruptions.
        seed: of the random moments.
        reference: folder of the same run without interruptions; None trains it first.

    Returns:
        A summary for people.
    """
    rng, counts = random.Random(seed), Counter()
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
            deadline = time.monotonic() + rng.uniform(0, seconds / 2)
            while running.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            while writing and running.poll() is None and not list(runs.glob("trial-*/checkpoints/.*")):
                pass
            if running.poll() is None:
                running.send_signal(kind)
        said, _ = running.communicate()
        if running.returncode == 0:
            (run,) = runs.glob("trial-*")
            assert_same_numbers(run, reference)
            shutil.rmtree(run)
            finished += 1
        else:
            assert running.returncode in (-kind, 128 + kind), said
            interruptions += 1
            counts[f"{kind.name}{' while writing' if writing else ''}"] += 1
            counts["saved in the middle of an epoch"] += ", batch " in said
    return (
        ", ".join(f"{number} {what}" for what, number in counts.items()) + f"; {finished} finished, identical numbers"
    )


def wait_for_epochs(running: subprocess.Popen | Command, runs: Path, more: int) -> None:
    """Wait until a process that was just started has saved `more` checkpoints."""
    seen = set()
    while running.poll() is None and len(seen) <= more:
        seen |= {path.name for path in runs.glob("trial-*/checkpoints/*.ckpt")}
        time.sleep(0.005)


def wait_for_training(running: subprocess.Popen | Command, runs: Path) -> bool:
    """Wait until a process that was just started trains; return False when it ended before."""
    before = {path: path.stat().st_mtime_ns for path in runs.glob("trial-*/events*")}
    while running.poll() is None:
        now = {path: path.stat().st_mtime_ns for path in runs.glob("trial-*/events*")}
        if now.keys() - before.keys():
            return True
        time.sleep(0.005)
    return False
