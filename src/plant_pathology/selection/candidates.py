"""Read the candidates of a sweep: groups of runs that differ only in data.fold, with their out-of-fold predictions."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.metrics import best_threshold, row_f1, sample_f1
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.inference.decision import decide

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
        probabilities: (n, labels) float32.
        true: (n, labels) bool.
        threshold: the common threshold with the best sample-F1.
        f1: (n,) F1 of each image at this threshold.
    """

    results: list[dict[str, Any]]
    folders: list[Path]
    images: np.ndarray
    fold: np.ndarray
    probabilities: np.ndarray
    true: np.ndarray
    threshold: float
    f1: np.ndarray

    @property
    def name(self) -> str:
        """Return the name of the first fold's run."""
        return self.results[0]["run"]

    @property
    def sample_f1(self) -> float:
        return float(self.f1.mean())

    @property
    def cost(self) -> tuple[int, float, float]:
        """Return what its networks cost a kernel: their number, megabytes, seconds per image.

        The time is estimated on the machine that trained.
        """
        size = sum((folder / "best.ckpt").stat().st_size for folder in self.folders)
        seconds = sum(FORWARD * each["network"]["views"] / each["images_per_second"] for each in self.results)
        return len(self.results), size / 1e6, seconds


def read_candidates(results: list[dict[str, Any]], runs: Path, competition: Competition) -> list[Candidate]:
    """Group results of runs into candidates, best sample-F1 first, equals by name.

    Args:
        results: result.json of each run.
        runs: the folder that holds the runs' folders.

    Raises:
        UserError: a run's predictions do not give the score in its result.json.
    """
    grouped = defaultdict(list)
    for result in sorted(results, key=lambda each: each["config"]["data"]["fold"]):
        config = {**result["config"], "data": {**result["config"]["data"], "fold": None}}
        grouped[json.dumps([config, result["data"], result["code"]], sort_keys=True)].append(result)
    candidates = [read_candidate(group, runs, competition) for group in grouped.values()]
    return sorted(candidates, key=lambda each: (-each.sample_f1, each.name))


def read_candidate(results: list[dict[str, Any]], runs: Path, competition: Competition) -> Candidate:
    """Read the predictions of one group of runs."""
    folders = [runs / result["run"] for result in results]
    tables = [
        read_predictions(folder, result, competition).assign(fold=result["config"]["data"]["fold"])
        for folder, result in zip(folders, results, strict=True)
    ]
    table = pd.concat(tables).sort_values("image", kind="stable")
    probabilities, true = probabilities_and_truth(table, competition)
    threshold, _ = best_threshold(probabilities, true, competition.multilabel)
    f1 = row_f1(decide(probabilities, threshold, competition.multilabel), true)
    images, fold = table["image"].to_numpy(str), table["fold"].to_numpy()
    return Candidate(results, folders, images, fold, probabilities, true, threshold, f1)


def read_predictions(folder: Path, result: dict[str, Any], competition: Competition) -> pd.DataFrame:
    """Read a run's validation.csv, one row per image, and check that it gives the score in result.json."""
    table = pd.read_csv(folder / "validation.csv", dtype={"image": str})
    probabilities, true = probabilities_and_truth(table, competition)
    f1 = sample_f1(decide(probabilities, result["threshold"], competition.multilabel), true)
    if not np.isclose(f1, result["f1"]):
        raise UserError(
            f"{folder}: validation.csv gives sample-F1 {f1:.6f}, but result.json says {result['f1']:.6f};"
            f" delete the folder and start the sweep again"
        )
    return table


def probabilities_and_truth(table: pd.DataFrame, competition: Competition) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns p_<label> as (n, labels) float32, and is_<label> as (n, labels) bool."""
    probabilities, true = (table[[prefix + label for label in competition.labels]] for prefix in ("p_", "is_"))
    return probabilities.to_numpy(np.float32), true.to_numpy(bool)


def comparable(candidates: list[Candidate]) -> list[Candidate]:
    """Keep the candidates that predicted the same images as the largest one: scores on other images do not compare.

    The largest is the one with the most images; among equals, the one with the best score.
    """
    largest = max(candidates, key=lambda each: (len(each.images), each.sample_f1))
    return [
        each
        for each in candidates
        if np.array_equal(each.images, largest.images) and np.array_equal(each.true, largest.true)
    ]
