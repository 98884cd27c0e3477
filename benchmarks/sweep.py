"""Measure the overhead of the local launcher.

    python benchmarks/sweep.py

Pure training time is the sum of the times of the runs' epochs, as the runs measured them in the same sweep.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = ["competition=sample", "machine=cpu", "prepare.image_size=64"]


def measure() -> dict[str, float]:
    """Return wall time of nine runs relative to their training time per worker, and the seconds that each run adds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for stage in (["sample"], ["prepare"], ["datastore", "push"]):
            command(root, *stage)
        nine, pure = sweep(root, "nine", 2, "trainer.max_epochs=10")
        one, first = sweep(root, "one", 1, "model=test_resnet", "model.lr=1e-3")
        seven, all_seven = sweep(root, "seven", 1, "model=test_resnet", "model.lr=range(1,8)")
    overhead = (seven - one - (all_seven - first)) / 6
    print(f"nine ResNets, two workers: {nine:.0f} s, of which training {pure / 2:.0f} s on each")
    print(f"each run after the first adds {overhead:.2f} s to its training")
    return {"nine_runs_vs_training_time": nine / (pure / 2), "overhead_seconds_a_run": overhead}


def sweep(root: Path, runs: str, workers: int, *overrides: str) -> tuple[float, float]:
    """Return the wall seconds of a sweep, and the seconds of the training in it."""
    start = time.perf_counter()
    command(root, "train", "-m", *overrides, f"paths.runs={runs}", f"hydra.launcher.workers={workers}")
    wall = time.perf_counter() - start
    return wall, sum(json.loads(path.read_text())["seconds"] for path in (root / runs).glob("*/result.json"))


def command(root: Path, module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"plant_pathology.{module}", *arguments, *SMALL], cwd=root, check=True)


if __name__ == "__main__":
    measure()
