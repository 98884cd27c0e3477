"""Check a submission.csv as Kaggle does before it scores one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.inference.answers import Answers
from plant_pathology.inference.decision import EXCLUSIVE
from plant_pathology.inference.tables import LayoutError, read_table
from plant_pathology.inference.test_set import Form

SUM_ERROR = 1e-3  # by which probabilities that exclude each other may miss 1


@dataclass(frozen=True)
class Check:
    """The result of one check of a rehearsal.

    Args:
        detail: the measured values when it passed, else the error, in Kaggle's words where Kaggle has some.
    """

    passed: bool
    detail: str


def check_submission(path: Path, form: Form, spec: dict[str, Any]) -> Check:
    """Check columns, ids and their order against the form, and that every cell holds what it should.

    Args:
        spec: bundle.json, which says what a cell holds, and whether a row's probabilities sum to 1.
    """
    if not path.is_file():
        return Check(False, f"Submission CSV Not Found: the kernel wrote no {path.name}")
    problem = scoring_problem(path, form, Answers(**spec["answers"]), spec["kind"] in EXCLUSIVE)
    return Check(False, f"Submission Scoring Error: {problem}") if problem else Check(True, f"{len(form.table)} rows")


def scoring_problem(path: Path, form: Form, answers: Answers, exclusive: bool) -> str | None:
    """Return why Kaggle would not score the file; None where it would.

    Args:
        answers: what writes the cells.
        exclusive: the labels exclude each other.
    """
    try:
        table = read_table(path)
    except LayoutError as error:
        return str(error)
    if list(table.columns) != list(form.table.columns):
        return f"columns are {list(table.columns)}, not {list(form.table.columns)}"
    ids, expected = table[form.id], form.table[form.id]
    if ids.duplicated().any():
        return f"{ids[ids.duplicated()].iloc[0]} is listed more than once"
    if set(ids) != set(expected):
        return f"the ids are not those of the form: {len(ids)}, not {len(expected)}"
    if list(ids) != list(expected):
        return "the ids are not in the order of the form"
    cells = table[form.answers]
    for column in form.answers:
        if (cells[column] == "").any():
            return f"{ids[cells[column] == ''].iloc[0]} has an empty cell in the column {column}"
    if answers.as_ in ("probability", "columns", "number"):
        return number_problem(cells, ids, answers.as_, exclusive)
    return label_problem(cells[form.answers[0]], ids, answers)


def number_problem(cells: pd.DataFrame, ids: pd.Series, answer: str, exclusive: bool) -> str | None:
    """Return what is wrong with cells of numbers: text, infinite, no probability, or a wrong sum."""
    numbers = cells.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not np.isfinite(numbers).all():
        row, column = np.argwhere(~np.isfinite(numbers))[0]
        return f"{ids.iloc[row]} has {cells.iloc[row, column]!r} in the column {cells.columns[column]}: no number"
    if answer != "number" and (numbers.min() < 0 or numbers.max() > 1):
        return f"a probability is {numbers.min():.4g} or {numbers.max():.4g}, outside 0 to 1"
    sums = numbers.sum(axis=1)
    if answer == "columns" and exclusive and np.abs(sums - 1).max() > SUM_ERROR:
        row = int(np.abs(sums - 1).argmax())
        return f"the probabilities of {ids.iloc[row]} sum to {sums[row]:.4f}, not 1"
    return None


def label_problem(cells: pd.Series, ids: pd.Series, answers: Answers) -> str | None:
    """Return what is wrong with cells of labels: an unknown one, one twice, or several where one is asked for."""
    known = set(answers.labels)
    for id_, cell in zip(ids, cells, strict=True):
        row = [cell] if answers.as_ == "label" else cell.split(answers.separator)
        if unknown := [label for label in row if label not in known]:
            return f"{id_} has empty or unknown labels: {unknown[0]!r}"
        if len(set(row)) < len(row):
            return f"{id_} has a label twice: {cell}"
    return None
