"""Write what select found into reports/, as tables and metrics.json."""

from pathlib import Path

import numpy as np
import pandas as pd

from plant_pathology.competition.metrics import label_counts
from plant_pathology.competition.task import Task
from plant_pathology.core.files import atomic_file
from plant_pathology.data.predictions import Predictions, write_predictions
from plant_pathology.inference.decision import RANKING, THRESHOLDS
from plant_pathology.selection.candidates import Candidate
from plant_pathology.selection.choice import Choice

TABLES = (
    *("leaderboard.csv", "labels.csv", "ensemble.csv", "thresholds.csv"),
    *("predictions.csv", "predictions.npz"),
)


def write_tables(reports: Path, board: pd.DataFrame, choice: Choice, labels: list[str], task: Task) -> None:
    """Write TABLES.

    Args:
        labels: in the order of the outputs; none for numbers.
    """
    chosen = chosen_labels(choice)
    write_table(reports / "leaderboard.csv", board)
    write_table(reports / "labels.csv", labels_table(choice.best.true, chosen, labels))
    write_table(reports / "ensemble.csv", ensemble_table(choice.members))
    write_table(reports / "thresholds.csv", thresholds_table(choice, labels))
    write_table(reports / "predictions.csv", predictions_table(choice, chosen, labels))
    best = choice.best
    write_predictions(reports / "predictions.npz", Predictions(best.images, labels, best.true, choice.outputs, chosen))


def write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic_file(path) as work:
        table.to_csv(work, index=False)


def chosen_labels(choice: Choice) -> np.ndarray:
    """Return what a person would call the prediction: class numbers, sets of labels, or numbers.

    For probabilities the likeliest class, or the labels of at least one half; for a ranking its first class.
    """
    decided, true = choice.decided, choice.best.true
    if choice.decision.by == RANKING:
        return decided[:, 0] if true.ndim == 1 else np.arange(true.shape[1]) == decided[:, :1]
    if decided.ndim == 2 and decided.dtype != bool:
        return decided.argmax(axis=1) if true.ndim == 1 else decided >= 0.5
    return decided


def labels_table(true: np.ndarray, chosen: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """Return precision, recall and F1 of the bundle for each label; no row for numbers."""
    columns = ["label", "precision", "recall", "f1", "images"]
    return label_counts(labels, true, chosen).round(4)[columns] if labels else pd.DataFrame(columns=columns)


def ensemble_table(members: list[tuple[Candidate, float]]) -> pd.DataFrame:
    """Return one row per candidate in the bundle, highest weight first; column configuration: the candidate's name."""
    table = pd.DataFrame(
        {
            "configuration": candidate.name,
            "weight": round(weight, 4),
            "networks": len(candidate.networks),
            "score": round(candidate.score.value, 6),
        }
        for candidate, weight in members
    )
    return table.sort_values("weight", ascending=False, kind="stable")


def thresholds_table(choice: Choice, labels: list[str]) -> pd.DataFrame:
    """Return the common, tuned and used threshold of each label; a column is empty where no threshold is used."""
    decisions = {
        "common": choice.tuned.get((THRESHOLDS, 0.0)),
        "tuned": choice.tuned.get((THRESHOLDS, 1.0)),
        "used": choice.decision,
    }
    thresholds = {
        name: each.values.round(4) if each is not None and each.by == THRESHOLDS else None
        for name, each in decisions.items()
    }
    return pd.DataFrame({"label": labels, **thresholds})


def predictions_table(choice: Choice, chosen: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """Return the bundle's out-of-fold predictions for people, one row per image.

    Columns: image, fold, true and predicted (labels joined by a space, or a number), and score: the row's part of the
    metric, where that is a mean over rows.
    """
    columns = {
        "image": choice.best.images,
        "fold": choice.best.fold,
        "true": label_texts(choice.best.true, labels),
        "predicted": label_texts(chosen, labels),
    }
    rows = choice.score.metric.rows
    if rows:
        columns["score"] = rows(choice.best.true, choice.decided).round(6)
    return pd.DataFrame(columns)


def label_texts(chosen: np.ndarray, labels: list[str]) -> list[str]:
    """Return each row as text."""
    if not labels:
        return [f"{number:.7g}" for number in chosen.tolist()]
    names = np.array(labels, object)
    return names[chosen].tolist() if chosen.ndim == 1 else [" ".join(names[row]) for row in chosen]
