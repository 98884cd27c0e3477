"""Read the candidates of a sweep: groups of runs that differ only in data.fold, with their out-of-fold predictions."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import vstack

from plant_pathology.competition.task import Task
from plant_pathology.core.errors import UserError
from plant_pathology.inference.decision import Decision
from plant_pathology.runs.predictions import PREDICTIONS, Predictions, read_predictions
from plant_pathology.selection.bootstrap import Score, score_of

# A training step is one forward pass and a backward pass of twice its work.
FORWARD = 1 / 3


@dataclass(frozen=True)
class Candidate:
    """Runs that differ only in data.fold, with the predictions of each for the images that it was not trained on.

    Args:
        results: result.json of each run, by fold.
        folders: the runs' folders.
        images: (n,) names, sorted.
        fold: (n,) the fold of each image.
        outputs: (n, outputs) float32, as `Predictions` has them.
        true: as in metrics.py.
        plain: the plain decision.
        score: of the plain decision.
    """

    results: list[dict[str, Any]]
    folders: list[Path]
    images: np.ndarray
    fold: np.ndarray
    outputs: Any
    true: np.ndarray
    plain: Decision
    score: Score

    @property
    def name(self) -> str:
        """Return the name of the first fold's run."""
        return self.results[0]["run"]

    @property
    def cost(self) -> tuple[int, float, float]:
        """Return what its networks cost a kernel: their number, megabytes, seconds per image.

        The time is estimated on the machine that trained.
        """
        size = sum((folder / "best.ckpt").stat().st_size for folder in self.folders)
        seconds = sum(FORWARD * each["network"]["views"] / each["images_per_second"] for each in self.results)
        return len(self.results), size / 1e6, seconds


def read_candidates(results: list[dict[str, Any]], runs: Path, labels: list[str], task: Task) -> list[Candidate]:
    """Group results of runs into candidates, best score first, equals by name.

    Args:
        results: result.json of each run.
        runs: the folder that holds the runs' folders.
        labels: that all runs must have been trained on; none for numbers.

    Raises:
        UserError: a run's predictions do not give the score in its result.json, or it has another metric.
    """
    grouped = defaultdict(list)
    for result in sorted(results, key=lambda each: each["config"]["data"]["fold"]):
        config = {**result["config"], "data": {**result["config"]["data"], "fold": None}}
        grouped[json.dumps([config, result["data"], result["code"]], sort_keys=True)].append(result)
    candidates = [read_candidate(group, runs, labels, task) for group in grouped.values()]
    return sorted(candidates, key=lambda each: (-each.score.signed, each.name))


def read_candidate(results: list[dict[str, Any]], runs: Path, labels: list[str], task: Task) -> Candidate:
    """Read the predictions of one group of runs."""
    folders = [runs / result["run"] for result in results]
    parts = [checked_predictions(folder, result, labels, task) for folder, result in zip(folders, results, strict=True)]
    images = np.concatenate([part.images for part in parts])
    order = np.argsort(images, kind="stable")
    fold = np.repeat([result["config"]["data"]["fold"] for result in results], [len(part.images) for part in parts])
    outputs = vstack([part.outputs for part in parts]).tocsr() if task.sparse else stacked(parts)
    true = np.concatenate([part.true for part in parts])[order]
    plain = task.plain_decision(outputs[order], true)
    score = score_of(task.metric, true, plain.decide(outputs[order]))
    return Candidate(results, folders, images[order], fold[order], outputs[order], true, plain, score)


def stacked(parts: list[Predictions]) -> np.ndarray:
    return np.concatenate([part.outputs for part in parts])


def checked_predictions(folder: Path, result: dict[str, Any], labels: list[str], task: Task) -> Predictions:
    """Read a run's predictions, and check that they give the score in result.json."""
    remedy = f"delete {folder} and start the sweep again"
    if result.get("metric") != task.metric.name:
        raise UserError(
            f"{folder} was trained for the metric {result.get('metric')}, not {task.metric.name}: start the sweep again"
        )
    predictions = read_predictions(folder / PREDICTIONS)
    if predictions.labels != labels:
        raise UserError(f"{folder} was trained on other labels than the other runs: start the sweep again")
    score = task.plain_score(predictions.outputs, predictions.true)
    if not np.isclose(score, result["score"]):
        raise UserError(
            f"{folder}: {PREDICTIONS} gives {task.metric.name} {score:.6f}, but result.json says"
            f" {result['score']:.6f}; {remedy}"
        )
    return predictions


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
