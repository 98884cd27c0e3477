"""Score a submission against the truth, by the competition's metric."""

from pathlib import Path

import numpy as np
import pandas as pd

from plant_pathology.competition.form import layout_errors
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import label_cells, targets_of
from plant_pathology.core.errors import UserError
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.tables import read_table, require
from plant_pathology.inference.test_set import Form


def submission_score(
    submitted: Path, solution: Path, raw: Path, form: Form, answers: Answers, competition: Competition
) -> float:
    """Return the submission's score.

    Args:
        solution: a CSV with the form's ids, and the truth as the training table or the form has it.
        raw: the competition's folder.
        answers: what wrote the submission.

    Raises:
        UserError: the solution has no row for an id of the submission, no column with the truth, or an unknown label.
    """
    with layout_errors(competition, "test.id"):
        truth = read_table(solution)
        require([form.id], truth, str(solution))
    ids = form.table[form.id]
    missing = ids[~ids.isin(truth[form.id])]
    if len(missing):
        raise UserError(
            f"rehearse.solution={solution} has no row for {len(missing)} images, first {missing.iloc[0]}: add them"
        )
    truth = truth.drop_duplicates(form.id).set_index(form.id).loc[ids].reset_index()
    if competition.target.column not in truth and len(form.answers) == 1 and competition.target.column:
        truth = truth.rename(columns={form.answers[0]: competition.target.column})
    cells, _ = label_cells(competition, truth, raw, solution)
    try:
        true = targets_of(pd.Series(cells), answers.labels, competition.target.kind)
    except KeyError as error:
        raise UserError(
            f"rehearse.solution={solution}: {error} is no label of the training images: correct it"
        ) from None
    return competition.metric.score(true, read_answers(read_table(submitted)[form.answers], true, answers))


def read_answers(cells: pd.DataFrame, true: np.ndarray, answers: Answers) -> np.ndarray:
    """Return the cells of a submission as what was decided; the inverse of `Answers.cells`.

    Args:
        true: (n,) class numbers or numbers, or (n, labels) bool.
    """
    places = {label: place for place, label in enumerate(answers.labels)}
    first = cells.iloc[:, 0]
    if answers.as_ == "number":
        return first.to_numpy(float)
    if answers.as_ == "columns":
        return cells[answers.labels].to_numpy(float)
    if answers.as_ == "probability":
        positive = places[answers.positive] if answers.positive else len(places) - 1
        others = (1 - first.to_numpy(float)) / max(len(places) - 1, 1)
        columns = [first.to_numpy(float) if place == positive else others for place in range(len(places))]
        return np.stack(columns, axis=1)
    rows = (
        [[places[label] for label in cell.split(answers.separator)] for cell in first] if answers.as_ != "label" else []
    )
    if answers.as_ == "ranking":
        return np.array(rows)
    if true.ndim == 1:
        return np.array([places[label] for label in first])
    chosen = np.zeros(true.shape, bool)
    for row, members in enumerate(rows or [[places[label]] for label in first]):
        chosen[row, members] = True
    return chosen
