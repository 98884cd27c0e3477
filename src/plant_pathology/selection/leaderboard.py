"""What a sweep compares: configurations. Runs that differ in nothing but data.fold are one, judged by the predictions
of all of them together, each image by the network that has not seen it.
"""

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
from plant_pathology.runs.cost import dollars
from plant_pathology.selection.axes import TITLES, settings_of, varying
from plant_pathology.selection.bootstrap import interval

# A step of training is a forward pass and a backward pass of twice its work.
FORWARD = 1 / 3


@dataclass(frozen=True)
class Configuration:
    """A row of the leaderboard.

    Args:
        results: result.json of its runs, by fold.
        folders: of the runs.
        images: (n,) names, sorted; `fold`: (n,) the fold that each is in.
        probabilities, true: (n, labels), out of fold.
        threshold: the best common one, and `f1`: (n,) each row's by it.
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
        """That of its first fold's run."""
        return self.results[0]["run"]

    @property
    def sample_f1(self) -> float:
        return float(self.f1.mean())

    @property
    def cost(self) -> tuple[int, float, float]:
        """Of what a kernel would run: networks, megabytes, seconds an image on the machine that trained."""
        size = sum((folder / "best.ckpt").stat().st_size for folder in self.folders)
        seconds = sum(FORWARD * each["network"]["views"] / each["images_per_second"] for each in self.results)
        return len(self.results), size / 1e6, seconds


def read_configurations(results: list[dict[str, Any]], runs: Path, competition: Competition) -> list[Configuration]:
    """Best first, equals by name.

    Raises:
        UserError: a run's predictions are not those that its result was measured on.
    """
    grouped = defaultdict(list)
    for result in sorted(results, key=lambda each: each["config"]["data"]["fold"]):
        config = {**result["config"], "data": {**result["config"]["data"], "fold": None}}
        grouped[json.dumps([config, result["data"], result["code"]], sort_keys=True)].append(result)
    configurations = [configuration_of(group, runs, competition) for group in grouped.values()]
    return sorted(configurations, key=lambda each: (-each.sample_f1, each.name))


def configuration_of(results: list[dict[str, Any]], runs: Path, competition: Competition) -> Configuration:
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
    return Configuration(results, folders, images, fold, probabilities, true, threshold, f1)


def read_predictions(folder: Path, result: dict[str, Any], competition: Competition) -> pd.DataFrame:
    """A run's validation.csv, an image a row."""
    table = pd.read_csv(folder / "validation.csv", dtype={"image": str})
    probabilities, true = probabilities_and_truth(table, competition)
    reached = sample_f1(decide(probabilities, result["threshold"], competition.multilabel), true)
    if not np.isclose(reached, result["f1"]):
        raise UserError(
            f"{folder}: validation.csv gives sample-F1 {reached:.6f}, result.json says {result['f1']:.6f};"
            f" delete the folder and start the sweep again"
        )
    return table


def probabilities_and_truth(table: pd.DataFrame, competition: Competition) -> tuple[np.ndarray, np.ndarray]:
    """(n, labels) probabilities and (n, labels) bool truth of a table with p_<label> and is_<label>."""
    probabilities, true = (table[[prefix + label for label in competition.labels]] for prefix in ("p_", "is_"))
    return probabilities.to_numpy(np.float32), true.to_numpy(bool)


def comparable(configurations: list[Configuration]) -> list[Configuration]:
    """Those that predicted the same images as the best one with the most images; only their scores compare."""
    most = max(configurations, key=lambda each: (len(each.images), each.sample_f1))
    return [
        each
        for each in configurations
        if np.array_equal(each.images, most.images) and np.array_equal(each.true, most.true)
    ]


def leaderboard(configurations: list[Configuration], competition: Competition) -> pd.DataFrame:
    """A row a configuration, in their order. What varies besides model and learning rate has a column by its key."""
    settings = settings_of({each.name: each.results[0]["config"] for each in configurations})
    shown = set(varying(settings)) - set(TITLES)
    others = settings[[key for key in settings if key in shown]].fillna("").to_dict("index")
    return pd.DataFrame(row(each, others[each.name], competition) for each in configurations)


def row(configuration: Configuration, others: dict[str, Any], competition: Competition) -> dict[str, Any]:
    """`others`: settings besides model and learning rate."""
    results = configuration.results
    low, high = interval(configuration.f1)
    seconds = sum(result["seconds"] for result in results)
    trained = sum(result["seconds"] * result["images_per_second"] for result in results)
    return {
        "run": configuration.name,
        "sample_f1": round(configuration.sample_f1, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "model": results[0]["config"]["model"]["name"],
        "lr": results[0]["config"]["model"]["lr"],
        "folds": len(results),
        **others,
        "best_epoch": round(float(np.median([result["epoch"] + 1 for result in results]))),
        "epochs": max(result["epochs"] for result in results),
        "threshold": round(configuration.threshold, 3),
        "stopped": "; ".join(dict.fromkeys(result["stopped"] for result in results if result["stopped"])),
        "seconds": round(seconds, 3),
        "dollars": round(sum(map(dollars, configuration.folders)), 4),
        "images_per_second": round(trained / seconds, 1),
        "data": results[0]["data_ref"],
        "competition": competition.name,
    }
