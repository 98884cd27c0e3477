"""Measure each stage's own work for many classes: 15,501 classes by 800,000 images, without decoding or networks.

    python benchmarks/classes.py [<classes> <images>]

Tables, labels, folds, duplicates, index, stored predictions, selection and submission are the real ones; hashes of
images and outputs of networks are drawn. Prints time, memory and file sizes, as docs/scale.md gives them.
"""

import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from plant_pathology.competition.metrics import label_counts
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import KEPT, Task, task_of
from plant_pathology.competition.train_table import all_labels, label_cells, targets_of
from plant_pathology.data.duplicates import find_duplicates
from plant_pathology.data.folds import assign_folds
from plant_pathology.data.index import ARRAY, TABLE, open_array, write_index
from plant_pathology.data.predictions import Predictions, likeliest_alone, read_predictions, write_predictions
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.decision import LIKELIEST, Decision
from plant_pathology.inference.tables import read_table
from plant_pathology.selection.bootstrap import confidence_interval
from plant_pathology.selection.crossfit import crossfit
from plant_pathology.selection.decisions import offers
from plant_pathology.selection.ensemble import Budget

if sys.platform != "win32":
    import resource

FOLDS, CANDIDATES, TESTED = 5, 3, 200_000


def main(classes: int = 15_501, images: int = 800_000) -> None:
    table = Table(title=f"{classes:,} classes, {images:,} images")
    for column in ("step", "processor s", "peak memory, MB", "files, MB"):
        table.add_column(column, justify="left" if column == "step" else "right")
    with tempfile.TemporaryDirectory() as scratch:
        draw(Path(scratch), classes, images)
        for step, work in STEPS.items():
            seconds, megabytes = alone(work, Path(scratch))
            size = sum(path.stat().st_size for path in Path(scratch).glob(FILES.get(step, "nothing"))) / 1e6
            table.add_row(step, f"{seconds:.1f}", f"{megabytes:,.0f}", f"{size:,.1f}" if size else "")
    Console(width=120).print(table)


def alone(work: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    """Run one step in a process of its own, and return its processor seconds and peak memory in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (work, folder))


def measured(work: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    started = process_time()
    work(folder)
    unit = 1 if sys.platform == "darwin" else 1024
    return process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def competition() -> Competition:
    content = {
        "name": "herbarium",
        "title": "Herbarium",
        "train": {"table": "train.csv", "files": "train/{image}"},
        "test": {"files": "test/{Id}.jpg"},
        "target": {"kind": "one", "column": "category"},
        "metric": "macro_f1",
        "submit": {"as": "label"},
    }
    return Competition.from_config(OmegaConf.create({"competition": content, "paths": {"code": "."}}))


def draw(folder: Path, classes: int, images: int) -> None:
    """Write a training table whose classes are as uneven as species in a herbarium: every class occurs."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(10, classes + 10)
    category = np.concatenate([np.arange(classes), rng.choice(classes, images - classes, p=shares / shares.sum())])
    names = [f"{number // 1000:03}/{number:06}.jpg" for number in range(images)]
    pd.DataFrame({"image": names, "category": rng.permutation(category)}).to_csv(folder / "train.csv", index=False)
    pd.DataFrame({"Id": range(TESTED), "category": 0}).to_csv(folder / "sample_submission.csv", index=False)


def read_labels(folder: Path) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    described, table = competition(), read_table(folder / "train.csv")
    cells, names = label_cells(described, table, folder, folder / "train.csv")
    labels = all_labels(described, cells, names, folder, folder / "train.csv")
    return table, labels, targets_of(pd.Series(cells), labels, "one")


def read(folder: Path) -> None:
    read_labels(folder)


def duplicates(folder: Path) -> None:
    """Draw hashes of which one in a hundred is a copy with a few other bits."""
    table, _, _ = read_labels(folder)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (len(table), 32), np.uint8)
    copies = rng.choice(len(table), len(table) // 100, replace=False)
    hashes[copies] = hashes[copies - 1] ^ (rng.random((len(copies), 32)) < 0.3)
    table["labels"], table["pixels"] = list(zip(table["category"], strict=True)), table["image"]
    table["phash"] = [row.tobytes() for row in hashes]
    find_duplicates(table, distance=40)


def index(folder: Path) -> None:
    table, _, targets = read_labels(folder)
    fold = assign_folds("one", targets, np.arange(len(table)), FOLDS, seed=0)
    place = np.arange(len(table))
    table = table.assign(labels=table["category"], fold=fold, group=place, pixels="0" * 64)
    write_index(folder, table.assign(shard=place // 400, row=place % 400), targets)


def open_rows(folder: Path) -> None:
    rows = open_array(folder / ARRAY)
    held_out = np.flatnonzero(rows["fold"] == 0)
    rows["target"][held_out].astype(np.int64)


def predictions(folder: Path) -> None:
    """Draw predictions of which about two thirds are right, for the fold that each candidate held out."""
    _, labels, _ = read_labels(folder)
    rows = open_array(folder / ARRAY)
    held_out = rows[rows["fold"] == 0]
    rng, true = np.random.default_rng(0), held_out["target"].astype(np.int64)
    names = np.char.decode(held_out["image"], "utf-8")
    for candidate in range(CANDIDATES):
        kept = np.sort((true[:, None] + rng.integers(1, 400, (len(true), KEPT)).cumsum(axis=1)) % len(labels), axis=1)
        values = rng.dirichlet(np.full(KEPT, 0.2), len(true)).astype(np.float32)
        right = rng.random(len(true)) < 0.65
        kept[right, values.argmax(axis=1)[right]] = true[right]
        outputs = likeliest_alone(values, kept, len(labels))
        write_predictions(folder / f"validation-{candidate}.npz", Predictions(names, labels, true, outputs))


def select(folder: Path) -> None:
    stored = [read_predictions(folder / f"validation-{candidate}.npz") for candidate in range(CANDIDATES)]
    task: Task = task_of(competition(), stored[0].labels, None)
    budget = Budget(np.ones((CANDIDATES, 1)), np.array([np.inf]))
    offered = offers(task, None)
    scores = crossfit([each.outputs for each in stored], stored[0].true, budget, task, offered, seed=0)
    confidence_interval(scores["best_1"][0])
    label_counts(stored[0].labels, stored[0].true, scores["best_1"][0].decided)


def submission(folder: Path) -> None:
    """Decide and write batch by batch, as the kernel does."""
    labels = read_predictions(folder / "validation-0.npz").labels
    decision, answers = Decision(LIKELIEST, np.zeros(len(labels))), Answers("label", labels, " ", None)
    rng, cells = np.random.default_rng(0), []
    for _ in range(0, TESTED, 32):
        cells += answers.cells(decision.decide(rng.random((32, len(labels)), np.float32)), ["category"])["category"]
    pd.DataFrame({"Id": range(len(cells)), "category": cells}).to_csv(folder / "submission.csv", index=False)


STEPS: dict[str, Callable[[Path], None]] = {
    "prepare: read the table": read,
    "prepare: duplicates": duplicates,
    "prepare: folds and index": index,
    "train: open the index": open_rows,
    f"train: store the predictions of {CANDIDATES} runs": predictions,
    "select: ensembles, decisions, interval": select,
    f"kernel: decide {TESTED:,} images": submission,
}
FILES = {
    "prepare: read the table": "train.csv",
    "prepare: folds and index": f"{Path(TABLE).stem}.*",
    f"train: store the predictions of {CANDIDATES} runs": "validation-0.npz",
    f"kernel: decide {TESTED:,} images": "submission.csv",
}

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
