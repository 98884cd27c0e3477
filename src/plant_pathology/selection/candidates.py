"""Make the candidates of a sweep: groups of runs that differ only in data.fold, with their out-of-fold predictions."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import vstack

from plant_pathology.competition.task import Task
from plant_pathology.core.errors import UserError
from plant_pathology.data.predictions import Predictions
from plant_pathology.inference.decision import Decision
from plant_pathology.runs.folder import BEST, PREDICTIONS, without_fold
from plant_pathology.selection.bootstrap import Score, score_of
from plant_pathology.selection.trained_runs import TrainedRun

# A training step is one forward pass and a backward pass of twice its work.
FORWARD = 1 / 3


@dataclass(frozen=True)
class Candidate:
    """Runs that differ only in data.fold, with the predictions of each for the images that it was not trained on.

    Args:
        runs: by fold.
        on_all: the runs of the same settings on all images, which have no score and no decision of their own.
        folds_predict: beside `on_all`, too.
        images: (n,) names, sorted.
        fold: (n,) the fold of each image.
        outputs: (n, outputs) float32, as `Predictions` has them.
        true: as in metrics.py.
        plain: the plain decision.
        score: of the plain decision.
    """

    runs: list[TrainedRun]
    on_all: list[TrainedRun]
    folds_predict: bool
    images: np.ndarray
    fold: np.ndarray
    outputs: Any
    true: np.ndarray
    plain: Decision
    score: Score

    @property
    def name(self) -> str:
        """Return the name of the first fold's run."""
        return self.runs[0].name

    @property
    def results(self) -> list[dict[str, Any]]:
        """Return result.json of each run."""
        return [run.result for run in self.runs]

    @property
    def folds(self) -> list[int]:
        """Return the fold that each run was not trained on."""
        return [run.fold for run in self.runs]

    @property
    def networks(self) -> list[TrainedRun]:
        """Return the runs whose networks predict."""
        return [*self.runs, *self.on_all] if self.folds_predict else self.on_all or self.runs

    @property
    def cost(self) -> tuple[int, float, float]:
        """Return what its networks cost a kernel: their number, megabytes, seconds per image.

        The time is estimated on the machine that trained.
        """
        size = sum((run.folder / BEST).stat().st_size for run in self.networks)
        results = [run.result for run in self.networks]
        seconds = sum(FORWARD * each["network"]["views"] / each["images_per_second"] for each in results)
        return len(results), size / 1e6, seconds


def candidates_of(runs: Sequence[TrainedRun], task: Task, folds_predict: bool = True) -> list[Candidate]:
    """Group runs into candidates, best score first, equals by name.

    Args:
        folds_predict: `select.folds`.

    Raises:
        UserError: a run's predictions do not give the score in its result.json; or a run on all images was stopped
            early, or has no run of the same settings that left out a fold, whose decision it needs.
    """
    grouped, on_all = defaultdict(list), defaultdict(list)
    for run in sorted(runs, key=lambda each: -1 if each.is_on_all else each.fold):
        settings = json.dumps(without_fold(run.result["config"]), sort_keys=True)
        if run.is_on_all:
            on_all[settings].append(run)
        else:
            grouped[settings].append(run)
    for settings, group in on_all.items():
        run = next((each for each in group if each.result["stopped"]), group[0])
        if run.result["stopped"]:
            raise UserError(
                f"{run.folder} was trained on all images and stopped early ({run.result['stopped']}), and nothing says"
                " how good it is: continue it (`python -m plant_pathology.monitor continue`), or start a sweep without"
                " data.fold=all"
            )
        if settings not in grouped:
            raise UserError(
                f"{run.folder} was trained on all images, and no run of this sweep has its settings and left out a"
                " fold: its score and its decision are theirs, so train them in one sweep (train.last=1, or"
                " data.fold=0,all)"
            )
    candidates = [candidate_of(group, task, on_all[settings], folds_predict) for settings, group in grouped.items()]
    return sorted(candidates, key=lambda each: (-each.score.signed, each.name))


def candidate_of(runs: list[TrainedRun], task: Task, on_all: list[TrainedRun], folds_predict: bool) -> Candidate:
    """Put the predictions of one group of runs together."""
    for run in runs:
        check_score(run, task)
    parts = [run.predictions for run in runs]
    images = np.concatenate([part.images for part in parts])
    order = np.argsort(images, kind="stable")
    fold = np.repeat([run.fold for run in runs], [len(part.images) for part in parts])
    outputs = vstack([part.outputs for part in parts]).tocsr() if task.sparse else stacked(parts)
    true = np.concatenate([part.true for part in parts])[order]
    plain = task.plain_decision(outputs[order], true)
    score = score_of(task.metric, true, plain.decide(outputs[order]))
    return Candidate(runs, on_all, folds_predict, images[order], fold[order], outputs[order], true, plain, score)


def stacked(parts: list[Predictions]) -> np.ndarray:
    return np.concatenate([part.outputs for part in parts])


def check_score(run: TrainedRun, task: Task) -> None:
    """Check that a run's predictions give the score in its result.json.

    Raises:
        UserError: they do not.
    """
    score = task.plain_score(run.predictions.outputs, run.predictions.true)
    if not np.isclose(score, run.result["score"]):
        raise UserError(
            f"{run.folder}: {PREDICTIONS} gives {task.metric.name} {score:.6f}, but result.json says"
            f" {run.result['score']:.6f}: delete {run.folder} and start the sweep again"
        )


def comparable(candidates: list[Candidate]) -> list[Candidate]:
    """Keep the candidates that predicted the same images as the largest one: scores on other images do not compare.

    The largest is the one with the most images; among equals, the one with the best score.
    """
    largest = max(candidates, key=lambda each: (len(each.images), each.score.signed))
    return [
        each
        for each in candidates
        if np.array_equal(each.images, largest.images) and np.array_equal(each.true, largest.true)
    ]
