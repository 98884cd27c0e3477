"""Read what `select` wrote into reports/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.runs.predictions import read_predictions

SELECT = "run `python -m plant_pathology.select`"
TEXT_COLUMNS = ("run", "configuration", "label", "image", "model", "true", "predicted")


@dataclass(frozen=True)
class SelectionTables:
    """The tables and metrics of a selection.

    Args:
        metrics: metrics.json.
        board: leaderboard.csv.
        ensemble: ensemble.csv.
        thresholds: thresholds.csv by label: common, tuned and used; used is empty where no threshold is used.
        predictions: predictions.csv, n rows.
        labels: in the order of the outputs; none for numbers.
        true: (n,) class numbers or numbers, or (n, labels) bool.
        outputs: (n, labels) probabilities or (n, 1) numbers, out of fold; sparse where only the likeliest are stored.
        predicted: as `true`.
    """

    metrics: dict[str, Any]
    board: pd.DataFrame
    ensemble: pd.DataFrame
    thresholds: pd.DataFrame
    predictions: pd.DataFrame
    labels: list[str]
    true: np.ndarray
    outputs: Any
    predicted: np.ndarray


def read_selection(reports: Path, competition: Competition) -> SelectionTables:
    """Read the selection and check that it is complete and about this competition.

    Raises:
        UserError: `select` has not run, or it ran for another competition or another metric.
    """
    path = reports / "metrics.json"
    metrics = read_json(path, SELECT)
    if metrics["competition"] != competition.name:
        raise UserError(f"{path} is for {metrics['competition']}, not {competition.name}: {SELECT}")
    if missing := sorted({"low", "high", "ensemble", "decision", "score"} - set(metrics)):
        raise UserError(f"{path} lacks {', '.join(missing)}: {SELECT}")
    if metrics["metric"] != competition.metric.name:
        raise UserError(f"{path} is by {metrics['metric']}, not {competition.metric.name}: {SELECT}")
    board, ensemble, predictions = (
        read_table(reports / f"{name}.csv") for name in ("leaderboard", "ensemble", "predictions")
    )
    if not (reports / "predictions.npz").exists():
        raise UserError(f"{reports / 'predictions.npz'} does not exist: {SELECT}")
    stored = read_predictions(reports / "predictions.npz")
    chosen = stored.chosen
    assert chosen is not None, "select writes what it decided"
    return SelectionTables(
        metrics=metrics,
        board=board,
        ensemble=ensemble,
        thresholds=read_table(reports / "thresholds.csv").set_index("label"),
        predictions=predictions,
        labels=stored.labels,
        true=stored.true,
        outputs=stored.outputs,
        predicted=chosen,
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
