"""Score two runs by the same labels: does a correction of labels help, or only agree with itself?

    python benchmarks/same_labels.py runs/<before> runs/<after>

The runs have the same settings and were trained on two versions of the data with other labels. Each is scored by the
labels of both, by the plain decision, on the images that both were validated on.
"""

import sys
from pathlib import Path

import numpy as np

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.task import Task
from plant_pathology.data.predictions import read_predictions
from plant_pathology.runs.finished import verified_result
from plant_pathology.runs.folder import PREDICTIONS


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folders = [Path(each) for each in sys.argv[1:]]
    results = []
    for folder in folders:
        result = verified_result(folder)
        if result is None or result["score"] is None:
            sys.exit(f"error: {folder} is no finished run that was validated")
        results.append(result)
    stored = [read_predictions(folder / PREDICTIONS) for folder in folders]
    if stored[0].labels != stored[1].labels:
        sys.exit("error: the runs have other labels: prepare both versions with the same list of labels")
    images, *rows = np.intersect1d(stored[0].images, stored[1].images, return_indices=True)
    if not len(images):
        sys.exit("error: no image validated both runs: train the same data.fold")
    truths = [part.true[rows_of] for part, rows_of in zip(stored, rows, strict=True)]
    changed = truths[0] != truths[1]
    print(f"{len(images)} images validated both, {int(changed.reshape(len(images), -1).any(axis=1).sum())} relabeled")
    competition = results[0]["config"]["competition"]
    task = Task(competition["kind"], metric_of(competition["metric"]), stored[0].outputs.shape[1])
    for folder, part, rows_of in zip(folders, stored, rows, strict=True):
        scores = [task.plain_score(part.outputs[rows_of], truth) for truth in truths]
        print(f"{folder.name}: {task.metric.name} {scores[0]:.4f} by the labels before, {scores[1]:.4f} after")


if __name__ == "__main__":
    main()
