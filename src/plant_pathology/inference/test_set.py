"""Read the form that Kaggle gives for a submission, and find the image of each of its ids."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from plant_pathology.inference.tables import LayoutError, fill, places, read_table, require, shown


@dataclass(frozen=True)
class Form:
    """A form: the submission without answers.

    Args:
        table: all columns and rows, as text.
        id: the column with the ids.
        images: the path of each row's image, relative to the competition's folder.
    """

    table: pd.DataFrame
    id: str
    images: list[str]

    @property
    def answers(self) -> list[str]:
        """Return the columns to fill in: all with a name but the ids'."""
        return [column for column in self.table if column not in ("", self.id)]


@dataclass(frozen=True)
class TestSet:
    """Where the form and the test images are; `competition.test` in the config explains each.

    Args:
        form: file name.
        files: template of an image's path.
        id: the form's column with the ids; None: the first one with a name.
        table: file that says more about each id; None: the form says enough.
        key: the table's column with the ids; None: named as in the form, or id, or image_id.
    """

    form: str
    files: str
    id: str | None = None
    table: str | None = None
    key: str | None = None

    def read(self, folder: Path) -> Form:
        """Read the form in a competition's folder.

        Raises:
            LayoutError: a file, a column, a row or an id is missing, or an id is there twice.
        """
        path = folder / self.form
        form = read_table(path)
        named = [str(column) for column in form if column]
        if not named:
            raise LayoutError(f"{path} has no column with a name")
        column = self.id or named[0]
        require([column], form, str(path))
        if form.empty:
            raise LayoutError(f"{path} has a header and no rows")
        ids = form[column]
        if (ids == "").any():
            raise LayoutError(
                f"{path}, {places(path, [int((ids == '').argmax())])[0]}, column {column}: the id is empty"
            )
        if ids.duplicated().any():
            second = int(ids.duplicated().argmax())
            first = int((ids == ids.iloc[second]).argmax())
            raise LayoutError(
                f"{path} has {shown(ids.iloc[second])} more than once in its column {column}, in"
                f" {' and '.join(places(path, [first, second]))}: set competition.test.id to the column with the ids"
            )
        images = self._joined(form, column, folder) if self.table else fill(self.files, form, str(path))
        return Form(form, column, images)

    def key_of(self, table: pd.DataFrame, column: str) -> str:
        """Return the column of `table` with the ids, which are in the form's column `column`."""
        known = [name for name in (column, "id", "image_id") if name in table]
        return self.key or (known[0] if known else column)

    def _joined(self, form: pd.DataFrame, column: str, folder: Path) -> list[str]:
        """Return the image that `table` gives for each of the form's ids, in the form's order."""
        path = folder / str(self.table)
        table = read_table(path)
        key = self.key_of(table, column)
        require([key], table, str(path))
        missing = form[column][~form[column].isin(table[key])]
        if len(missing):
            raise LayoutError(
                f"{path} has no row for {len(missing)} ids of {self.form}, first {missing.iloc[0]!r}, in its column"
                f" {key}: set competition.test.key to its column with the ids"
            )
        pairs = pd.DataFrame({"id": table[key], "image": fill(self.files, table, str(path))}).drop_duplicates()
        pairs = pairs[pairs["id"].isin(form[column])]
        if (again := pairs["id"].duplicated()).any():
            first, second = pairs.index[pairs["id"] == pairs["id"][again].iloc[0]][:2]
            raise LayoutError(
                f"{path} has two images of {shown(table[key][first])}, {shown(pairs['image'][first])} and"
                f" {shown(pairs['image'][second])}, in {' and '.join(places(path, [first, second]))}, and an answer is"
                " of one image: name in competition.test.files one that all rows of an id share"
            )
        return pairs.set_index("id")["image"].loc[form[column]].tolist()
