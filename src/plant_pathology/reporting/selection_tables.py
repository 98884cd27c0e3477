"""Read what `select` wrote into reports/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json

SELECT = "run `python -m plant_pathology.select`"
TEXT_COLUMNS = ("run", "configuration", "label", "image", "model")


@dataclass(frozen=True)
class SelectionTables:
    """The tables and metrics of a selection.

    Args:
        metrics: metrics.json.
        board: leaderboard.csv.
        ensemble: ensemble.csv.
        thresholds: thresholds.csv by label: common, tuned and used; used is empty where no threshold is used.
        predictions: predictions.csv, n rows.
        true: (n, labels) bool.
        probabilities: (n, labels), out of fold.
        predicted: (n, labels) bool.
    """

    metrics: dict[str, Any]
    board: pd.DataFrame
    ensemble: pd.DataFrame
    thresholds: pd.DataFrame
    predictions: pd.DataFrame
    true: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray


def read_selection(reports: Path, competition: Competition) -> SelectionTables:
    """Read the selection and check that it is complete and about this competition.

    Raises:
        UserError: `select` has not run, or it ran for another competition or other labels.
    """
    path = reports / "metrics.json"
    metrics = read_json(path, SELECT)
    if metrics["competition"] != competition.name:
        raise UserError(f"{path} is for {metrics['competition']}, not {competition.name}: {SELECT}")
    if missing := sorted({"low", "high", "ensemble", "decision"} - set(metrics)):
        raise UserError(f"{path} lacks {', '.join(missing)}: {SELECT}")
    board, ensemble, predictions = (
        read_table(reports / f"{name}.csv") for name in ("leaderboard", "ensemble", "predictions")
    )
    thresholds = read_table(reports / "thresholds.csv").set_index("label")
    columns = [f"{prefix}{label}" for prefix in ("is_", "p_", "has_") for label in competition.labels]
    if missing := sorted({*columns} - {*predictions} | {*competition.labels} - {*thresholds.index}):
        raise UserError(f"{reports}: predictions.csv and thresholds.csv lack {', '.join(missing)}: {SELECT}")
    true, probabilities, predicted = np.split(predictions[columns].to_numpy(float), 3, axis=1)
    return SelectionTables(
        metrics=metrics,
        board=board,
        ensemble=ensemble,
        thresholds=thresholds.loc[competition.labels],
        predictions=predictions,
        true=true.astype(bool),
        probabilities=probabilities,
        predicted=predicted.astype(bool),
    )


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV; names stay text, even if they look like numbers or missing values.

    Raises:
        UserError: the file does not exist.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {SELECT}") from None
