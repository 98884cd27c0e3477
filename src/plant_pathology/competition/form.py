"""Check the form for a submission before anything is trained: its ids, its columns, and a file for every id."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from plant_pathology.competition.labels import positive_label, shortened
from plant_pathology.competition.similar_files import SimilarFiles
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.tables import LayoutError, files_below, root_of, shown
from plant_pathology.inference.test_set import Form


@contextmanager
def layout_errors(competition: Competition, key: str) -> Iterator[None]:
    """Raise errors in the layout of files as the user's, naming the key to correct.

    Raises:
        UserError: in the place of LayoutError.
    """
    try:
        yield
    except LayoutError as error:
        raise UserError(
            f"{error}: correct competition.{key} in {competition.file}, or download the competition again"
        ) from None


def read_form(competition: Competition, raw: Path) -> Form:
    """Read the form.

    Raises:
        UserError: it is missing, or its columns are not those that the config names.
    """
    with layout_errors(competition, "test"):
        return competition.test.read(raw)


def answers_of(competition: Competition, labels: list[str]) -> Answers:
    """Return what writes the form's cells.

    Args:
        labels: in the order of the network's outputs.

    Raises:
        UserError: `submit.positive` is no label, or a label contains the separator.
    """
    submit = competition.submit
    if submit.as_ in ("labels", "ranking") and (
        label := next((each for each in labels if submit.separator in each), None)
    ):
        raise UserError(
            f"{competition.file}: the label {shown(label)} contains submit.separator={submit.separator!r}, so a cell of"
            " several could not be read: set submit.separator to what Kaggle's page says"
        )
    return Answers(submit.as_, labels, submit.separator, positive_label(competition, labels))


def check_columns(competition: Competition, form: Form, labels: list[str]) -> None:
    """Check that the form has one column per label.

    Raises:
        UserError: naming the columns that are no label, and the labels that have no column.
    """
    columns, known = set(form.answers), set(labels)
    strange = [column for column in form.answers if column not in known]
    missing = [label for label in labels if label not in columns]
    if strange:
        near = difflib.get_close_matches(strange[0], missing, n=1)
        name = strange[0] if strange[0] == strange[0].strip() else repr(strange[0])
        raise UserError(
            f"{competition.test.form} has the column {name}, which is no label of the training images"
            f" ({shortened(labels)}): set target.column, target.labels or submit.as in {competition.file}"
            + (f"; did you mean the label {near[0]}?" if near else "")
        )
    if missing:
        raise UserError(
            f"{competition.test.form} has no column for the label {missing[0]}, but {shortened(form.answers)}: set"
            f" target.labels or submit.as in {competition.file}"
        )


def check_form(competition: Competition, raw: Path, labels: list[str]) -> None:
    """Check that the form can be filled in.

    Raises:
        UserError: an id has no file, a column does not take what `submit.as` writes, or `submit.positive` is no label.
    """
    form = read_form(competition, raw)
    answers_of(competition, labels)
    if competition.submit.as_ == "columns":
        check_columns(competition, form, labels)
    elif len(form.answers) != 1:
        raise UserError(
            f"{competition.test.form} has {f'the columns {shortened(form.answers)}' if form.answers else 'no column'}"
            f" besides {form.id}, but submit.as={competition.submit.as_} fills in one: set submit.as to columns, or"
            f" test.id, in"
            f" {competition.file}"
        )
    with layout_errors(competition, "test.files"):
        present = set(files_below(raw, root_of(competition.test.files)))
    absent = [place for place, image in enumerate(form.images) if image not in present]
    if absent:
        id_, image = form.table[form.id].iloc[absent[0]], form.images[absent[0]]
        example = SimilarFiles(present).explain(image) or (f"; there is {min(present)}" if present else "")
        raise UserError(
            f"{raw}: {len(absent)} of {len(form.images)} ids of {competition.test.form} have no file, first {id_!r}:"
            f" test.files={competition.test.files} makes it {image}{example}: correct test.files, or name in test.table"
            f" the file that knows the paths, in {competition.file}"
        )
    check_cells(competition, form, labels)


def check_cells(competition: Competition, form: Form, labels: list[str]) -> None:
    """Compare what the form's own cells hold, which are examples, with what `submit.as` writes.

    Raises:
        UserError: they hold text where numbers are written, or fractions where labels are.
    """
    answer = competition.submit.as_
    cells = form.table[form.answers].stack().loc[lambda each: each != ""].head(10_000)
    numbers = pd.to_numeric(cells, errors="coerce")
    if answer in ("probability", "columns", "number") and numbers.isna().any():
        raise UserError(
            f"{competition.test.form} holds {shown(cells[numbers.isna()].iloc[0])}, but submit.as={answer} writes"
            f" numbers: set submit.as in {competition.file} to label, labels or ranking"
        )
    fractions = numbers.notna() & (numbers % 1 != 0) & ~cells.isin(labels)
    if answer in ("label", "labels", "ranking") and fractions.any():
        raise UserError(
            f"{competition.test.form} holds {shown(cells[fractions].iloc[0])}, but submit.as={answer} writes labels:"
            f" set submit.as in {competition.file} to probability, columns or number"
        )
