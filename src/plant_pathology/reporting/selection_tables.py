"""Read what `select` wrote into reports/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.bundle import SELECT
from plant_pathology.competition.purpose import check_purpose
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.hashes import file_hash
from plant_pathology.data.predictions import read_predictions
from plant_pathology.inference.bundle import SPEC
from plant_pathology.selection.record import METRICS, RECORD, SHIFT, read_record

TEXT_COLUMNS = ("run", "left_out", "configuration", "label", "image", "model", "true", "predicted")


@dataclass(frozen=True)
class SelectionTables:
    """The tables and metrics of a selection.

    Args:
        bundle: SHA-256 of the selected bundle.json.
        metrics: metrics.json.
        shift: shift.json.
        board: leaderboard.csv.
        ensemble: ensemble.csv.
        thresholds: thresholds.csv by label: common, tuned and used; used is empty where no threshold is used.
        predictions: predictions.csv, n rows.
        labels: in the order of the outputs; none for numbers.
        true: (n,) class numbers or numbers, or (n, labels) bool.
        outputs: (n, labels) probabilities or (n, 1) numbers, out of fold; sparse where only the likeliest are stored.
        predicted: as `true`.
    """

    bundle: str
    metrics: dict[str, Any]
    shift: dict[str, Any]
    board: pd.DataFrame
    ensemble: pd.DataFrame
    thresholds: pd.DataFrame
    predictions: pd.DataFrame
    labels: list[str]
    true: np.ndarray
    outputs: Any
    predicted: np.ndarray

    def names(self, row: np.ndarray) -> list[str]:
        """Return the labels that a row of `true` or `predicted` holds."""
        return np.array(self.labels, object)[np.atleast_1d(row)].tolist()


def read_selection(reports: Path, models: Path, competition: Competition) -> SelectionTables:
    """Read the selection and check that it is complete, that of the bundle, and about this competition.

    Raises:
        DamagedError: a table is missing, or is not what `select` wrote.
        UserError: `select` has not run, or it ran for another config, or models/best is of another selection.
    """
    record = read_record(reports)
    check_purpose(f"{reports / RECORD}", record["made_for"], competition, SELECT)
    bundle = models / "best" / SPEC
    if bundle.exists() and file_hash(bundle) != record["bundle"]:
        raise UserError(f"{bundle} is of another selection than {reports / RECORD}: {SELECT}")
    metrics = read_json(reports / METRICS, SELECT)
    board, ensemble, predictions = (
        read_table(reports / f"{name}.csv") for name in ("leaderboard", "ensemble", "predictions")
    )
    stored = read_predictions(reports / "predictions.npz")
    chosen = stored.chosen
    assert chosen is not None, "select writes what it decided"
    return SelectionTables(
        bundle=record["bundle"],
        metrics=metrics,
        shift=read_json(reports / SHIFT, SELECT),
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
    """Read a CSV; names stay text, even if they look like numbers or missing values."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False)
