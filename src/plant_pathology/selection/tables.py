"""Write what select found into reports/, as tables and metrics.json."""

from pathlib import Path

import pandas as pd

from plant_pathology.competition.metrics import label_counts
from plant_pathology.competition.spec import Competition
from plant_pathology.core.files import atomic_file
from plant_pathology.inference.decision import THRESHOLDS
from plant_pathology.selection.candidates import Candidate
from plant_pathology.selection.choice import Choice
from plant_pathology.selection.decisions import COMMON, PER_LABEL


def write_tables(reports: Path, board: pd.DataFrame, choice: Choice, competition: Competition) -> None:
    """Write leaderboard.csv, labels.csv, ensemble.csv, thresholds.csv and predictions.csv."""
    write_table(reports / "leaderboard.csv", board)
    write_table(reports / "labels.csv", labels_table(choice, competition))
    write_table(reports / "ensemble.csv", ensemble_table(choice.members))
    write_table(reports / "thresholds.csv", thresholds_table(choice, competition))
    write_table(reports / "predictions.csv", predictions_table(choice, competition))


def write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic_file(path) as work:
        table.to_csv(work, index=False)


def labels_table(choice: Choice, competition: Competition) -> pd.DataFrame:
    """Return precision, recall and F1 of the bundle for each label."""
    counts = label_counts(competition.labels, choice.best.true, choice.predicted).round(4)
    return counts[["label", "precision", "recall", "f1", "images"]]


def ensemble_table(members: list[tuple[Candidate, float]]) -> pd.DataFrame:
    """Return one row per candidate in the bundle, highest weight first; column configuration: the candidate's name."""
    table = pd.DataFrame(
        {
            "configuration": candidate.name,
            "weight": round(weight, 4),
            "networks": len(candidate.results),
            "sample_f1": round(candidate.sample_f1, 6),
        }
        for candidate, weight in members
    )
    return table.sort_values("weight", ascending=False, kind="stable")


def thresholds_table(choice: Choice, competition: Competition) -> pd.DataFrame:
    """Return the common, tuned and used threshold of each label; a column is empty where no threshold is used."""
    decisions = {"common": choice.tuned[COMMON], "tuned": choice.tuned[PER_LABEL], "used": choice.decision}
    thresholds = {name: each.values.round(4) if each.by == THRESHOLDS else None for name, each in decisions.items()}
    return pd.DataFrame({"label": competition.labels, **thresholds})


def predictions_table(choice: Choice, competition: Competition) -> pd.DataFrame:
    """Return the bundle's out-of-fold predictions, one row per image.

    Columns: image, fold, and for each label is_<label> (the truth, 0 or 1), p_<label> (the probability) and has_<label>
    (the decision, 0 or 1).
    """
    blocks = {"is": choice.best.true.astype(int), "p": choice.probabilities, "has": choice.predicted.astype(int)}
    tables = [
        pd.DataFrame(values, columns=[f"{prefix}_{label}" for label in competition.labels])
        for prefix, values in blocks.items()
    ]
    columns = [pd.Series(choice.best.images, name="image"), pd.Series(choice.best.fold, name="fold")]
    return pd.concat([*columns, *tables], axis=1)
