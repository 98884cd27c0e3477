"""Interrupt runs at random moments and compare all digits with an uninterrupted run.

    python benchmarks/interruptions.py [count, default 30] [seed]

Uses the embedded sample and a small network; stops at the first digit that differs.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.interruptions import interrupt

SMALL = ["competition=sample", "machine=cpu", "model=test_resnet", "prepare.image_size=32"]


def main(count: int = 30, seed: int = 2021) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for stage in (["sample"], ["prepare"], ["datastore", "push"]):
            subprocess.run(
                [sys.executable, "-m", f"plant_pathology.{stage[0]}", *stage[1:], *SMALL], cwd=folder, check=True
            )
        print(interrupt(Path(folder), count, seed, *SMALL))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
