"""Run the whole pipeline on drawn competitions with Kaggle's layouts, on small settings, and print a table of scores.

    python benchmarks/competitions.py <folder with draw.py and grade.py> [<name> ...]

draw.py draws each competition, and grade.py scores the rehearsed submission on its own, without this project's code.
Each needs its file in conf/competition/ and a minute or two on two cores. Exits with 1 unless all are graded.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SETTINGS = [
    *("recipe=ours", "machine=cpu", "store=file", "logger=csv", "prepare.image_size=64", "prepare.encoding=raw"),
    *("model.pretrained=false", "trainer.max_epochs=15", "data.batch_size=16", "data.views=1", "threads=1"),
    *("data.augment.brightness=0", "data.augment.rotate=0", "rehearse.images=100"),
]
SWEEP = ["sweep.model=test_resnet", "sweep.lr=1e-2", "train.folds=1"]
STAGES = {
    "prepare": ["prepare"],
    "push": ["datastore", "push"],
    "train": ["train", "-m", *SWEEP],
    "select": ["select"],
    "package": ["package"],
    "rehearse": ["rehearse"],
    "report": ["report"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drawn", type=Path, help="folder with draw.py and grade.py")
    parser.add_argument("names", nargs="*", help="competitions; default: all that draw.py lists")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept; default: a temporary one")
    arguments = parser.parse_args()
    listing = python(arguments.drawn / "draw.py").stdout
    names = arguments.names or re.findall(r"^([a-z0-9-]+-[a-z0-9-]+) ", listing, re.MULTILINE)
    print(f"{'competition':45} {'lines':>5}  {'stage':9} metric and score")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        graded = [run(name, arguments.drawn, folder) for name in names]
    sys.exit(not all(graded))


def run(name: str, drawn: Path, folder: Path) -> bool:
    """Draw one competition, run every stage, grade the submission and print one line; return whether it was graded."""
    root = folder / name
    python(drawn / "draw.py", name, root / "data" / "raw")
    for stage, (module, *arguments) in STAGES.items():
        done = python("-m", f"plant_pathology.{module}", *arguments, *settings(name, root), check=False)
        (root / f"{stage}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            return report(name, stage, (done.stderr.strip().splitlines() or [""])[-1])
    grade = [name, root / "reports/rehearsal/submission.csv", root / f"data/raw/answers/{name}.csv"]
    done = python(drawn / "grade.py", *grade, check=False)
    return report(name, "graded" if done.returncode == 0 else "refused", done.stdout.strip().removeprefix(f"{name} "))


def settings(name: str, root: Path) -> list[str]:
    return [f"competition={name}", f"paths.root={root}", *SETTINGS]


def report(name: str, stage: str, result: str) -> bool:
    """Print one line of the table; `stage` is the one that failed, or graded."""
    lines = len((PROJECT / f"conf/competition/{name}.yaml").read_text(encoding="utf-8").splitlines())
    print(f"{name:45} {lines:5}  {stage:9} {result}", flush=True)
    return stage == "graded"


def python(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    """Run Python in the project, with its package on the path."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=check,
    )


if __name__ == "__main__":
    main()
