"""Score a submission against the truth, by the competition's metric."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.added_table import read_added_table
from plant_pathology.competition.form import layout_errors
from plant_pathology.competition.metrics import LABELS
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import metric_for
from plant_pathology.competition.train_table import label_cells, read_train, targets_of, without_repeated_annotations
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import file_hash
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.tables import LayoutError, places, read_table, require
from plant_pathology.inference.test_set import Form


@dataclass(frozen=True)
class Solution:
    """What is true of the test set of rehearse.test_images.

    Args:
        true: as `read_truth` returns it.
        training_images: how many of its images are training images, too, so that the score is too high.
    """

    true: np.ndarray
    training_images: int


def read_solution(path: Path) -> pd.DataFrame:
    """Read rehearse.solution.

    Raises:
        UserError: it is missing, or no table in UTF-8.
    """
    try:
        return read_table(path)
    except LayoutError as error:
        raise UserError(f"rehearse.solution: {error}: correct the path, or the file") from None


def read_truth(solution: Path, raw: Path, form: Form, labels: list[str], competition: Competition) -> np.ndarray:
    """Read the truth of a form's rows: (n,) class numbers or numbers, or (n, labels) bool.

    Args:
        solution: a CSV with the form's ids, and the truth as the training table or the form has it.
        raw: the competition's folder.
        labels: in the order of the outputs; none for numbers.

    Raises:
        UserError: it is no table in UTF-8, has no row for an id, or rows that contradict each other, no column with the
            truth, or a cell that is no truth.
    """
    truth = read_solution(solution)
    with layout_errors(competition, "test.id"):
        require([form.id], truth, str(solution))
    ids = form.table[form.id]
    missing = ids[~ids.isin(truth[form.id])]
    if len(missing):
        raise UserError(
            f"rehearse.solution={solution} has no row for {len(missing)} images, first {missing.iloc[0]}: add them"
        )
    truth = truth[truth[form.id].isin(ids)]
    if competition.target.column not in truth and len(form.answers) == 1 and competition.target.column:
        truth = truth.rename(columns={form.answers[0]: competition.target.column})
    cells, _ = label_cells(competition, truth, raw, solution)
    listed = truth[form.id].tolist()
    if solution.suffix == ".json":
        truth, listed, cells = without_repeated_annotations(truth, listed, cells, competition.target.kind)
    first: dict[str, int] = {}
    for row, id_ in enumerate(listed):
        if {*cells[first.setdefault(id_, row)]} != {*cells[row]}:
            both = " and ".join(places(solution, truth.index[[first[id_], row]].tolist()))
            raise UserError(f"rehearse.solution={solution}: {id_} has two truths, in {both}: remove the wrong one")
    cells = [cells[first[id_]] for id_ in ids]
    known = frozenset(labels)
    for id_, cell in zip(ids, cells, strict=True):
        if problem := problem_of(cell, known, competition.target.kind):
            raise UserError(f"rehearse.solution={solution}: {id_} {problem}: correct it")
    return targets_of(pd.Series(cells), labels, competition.target.kind)


def problem_of(cell: tuple[str, ...], labels: frozenset[str], kind: str) -> str | None:
    """Return why a cell is no truth; None where it is."""
    if kind == "number":
        is_number = np.isfinite(pd.to_numeric(cell[0], errors="coerce"))
        return None if is_number else f"has {cell[0]!r}, which is no number"
    if unknown := [label for label in cell if label not in labels]:
        return f"has {unknown[0]!r}, which is no label of the training images"
    return None if kind == "several" or len(cell) == 1 else f"has {len(cell)} labels instead of one"


def training_images(cfg: DictConfig, competition: Competition) -> Iterator[Path]:
    """Yield the images that networks may know by heart: those of the training table, and extra ones."""
    train = read_train(competition, Path(cfg.paths.raw))
    yield from (train.folder / name for name in train.rows.loc[train.rows["present"], "image"].unique())
    if cfg.prepare.extra:
        folder = Path(cfg.paths.extra)
        _, extra = read_added_table("prepare.extra", cfg.prepare.extra, folder, ["image"])
        yield from (path for name in extra["image"] if (path := folder / name).is_file())


def count_same(images: Iterable[Path], others: Iterable[Path]) -> int:
    """Return how many images have the bytes of one of the others."""
    images = list(images)
    sizes = {path.stat().st_size for path in images}
    known = {file_hash(path) for path in others if path.stat().st_size in sizes}
    return sum(file_hash(path) in known for path in images)


def submission_score(
    submitted: Path, true: np.ndarray, form: Form, answers: Answers, competition: Competition
) -> float | None:
    """Return the submission's score; None where the metric has no value for this truth, such as that of one class.

    Args:
        true: what `read_truth` returns.
        answers: what wrote the submission.
    """
    metric = metric_for(competition, answers.labels)
    decided = read_answers(read_table(submitted)[form.answers], true, answers, metric.scores)
    score = metric.score(true, decided)
    return score if np.isfinite(score) else None


def read_answers(cells: pd.DataFrame, true: np.ndarray, answers: Answers, scores: str) -> np.ndarray:
    """Return the cells of a submission as what was decided; the inverse of `Answers.cells`.

    Args:
        true: (n,) class numbers or numbers, or (n, labels) bool.
        scores: what the metric scores: of labels, columns hold 0 and 1.
    """
    places = {label: place for place, label in enumerate(answers.labels)}
    first = cells.iloc[:, 0]
    if answers.as_ == "number":
        return first.to_numpy(float)
    if answers.as_ == "columns":
        columns = cells[answers.labels].to_numpy(float)
        if scores != LABELS:
            return columns
        return columns.argmax(axis=1) if true.ndim == 1 else columns.astype(bool)
    if answers.as_ == "probability":
        positive = places[answers.positive] if answers.positive else len(places) - 1
        # Of two labels the other has the rest; of more, `metric_for` scores this one alone.
        asked = first.to_numpy(float)
        return np.stack([asked if place == positive else 1 - asked for place in range(len(places))], axis=1)
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
