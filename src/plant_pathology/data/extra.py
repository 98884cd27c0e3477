"""Join rows that a person added: they train in every fold and never validate, so scores stay those of the competition.

`prepare.extra` names a csv in data/extra: `image`, a path below that folder, and `labels`, as in the training table. A
row that shows a picture of the table, or nearly, or that is of one of its groups (a patient, a place), is left out: in
training it would tell what a fold is validated on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.added_table import leads_out, read_added_table
from plant_pathology.competition.labels import without_spelling
from plant_pathology.competition.relabel import labels_of
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import cell_problems
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import file_hash
from plant_pathology.data.decode_cache import DecodeCache
from plant_pathology.data.duplicates import find_duplicates
from plant_pathology.data.index import NO_FOLD
from plant_pathology.inference.tables import places, shown

PREFIX = "extra:"  # before the path in an image's name, which no other image has


@dataclass(frozen=True)
class ExtraRows:
    """Rows that train only.

    Args:
        rows: image (its name), labels (a tuple of texts), row (its position in the file), and those of
            `Competition.group_columns` that the file has.
        path: of the file.
        folder: of the images.
    """

    rows: pd.DataFrame
    path: Path
    folder: Path

    @property
    def files(self) -> dict[str, Path]:
        """Return the path of each image by its name."""
        return {name: self.folder / name.removeprefix(PREFIX) for name in self.rows["image"]}

    def problem(self, place: int, what: str) -> UserError:
        """Return an error that names the line."""
        return UserError(f"{self.path}, {places(self.path, [int(self.rows['row'].iloc[place])])[0]}: {what}")

    def check_readable(self, unreadable: dict[str, str]) -> None:
        """Check that all images were decoded.

        Args:
            unreadable: {name: what is wrong with its file}.

        Raises:
            UserError: naming the line of the first that was not.
        """
        for place, name in enumerate(self.rows["image"]):
            if name in unreadable:
                raise self.problem(place, f"{shown(name.removeprefix(PREFIX))}: {unreadable[name]}: replace the image")


def read_extra(competition: Competition, name: str | None, folder: Path, labels: list[str]) -> ExtraRows | None:
    """Read the file that `prepare.extra` names; None where it names none.

    Args:
        folder: `paths.extra`.
        labels: all labels; none for a number.

    Raises:
        UserError: the file or one of its rows cannot be used; names the first such row.
    """
    if name is None:
        return None
    path, table = read_added_table("prepare.extra", name, folder, ["image", "labels"])
    if table.empty:
        raise UserError(f"prepare.extra={name}: {path} has a header and no rows: fill it in, or set prepare.extra=null")
    cells = [labels_of(cell, competition.target) for cell in table["labels"]]
    rows = pd.DataFrame({"image": PREFIX + table["image"], "labels": cells, "row": np.arange(len(table))})
    for column, group in zip(competition.group_columns, competition.groups, strict=True):
        if group in table:
            rows[column] = table[group]
    extra = ExtraRows(rows, path, folder)
    known, repeated = set(labels), table["image"].duplicated().tolist()
    for place, (image, cell) in enumerate(zip(table["image"], cells, strict=True)):
        if problems := cell_problems(cell, known, competition.target.kind):
            raise extra.problem(place, f"{problems[0]}: correct it")
        if leads_out(image) or not (folder / image).is_file():
            raise extra.problem(place, f"there is no file {shown(image)} in {folder}: correct its path, or add it")
        if repeated[place]:
            raise extra.problem(place, f"{shown(image)} is there before: remove one of the rows")
    return extra


def joined(
    kept: pd.DataFrame, good: pd.DataFrame, extra: ExtraRows, decoded: DecodeCache, near_bits: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows of the table with the extra ones after them, and what manifest.json says of these.

    Args:
        kept: the table's rows that `prepare.duplicates` keeps: image, labels, fold, group, pixels.
        good: all of its good rows: image, labels, pixels, phash, and groups.
        near_bits: `prepare.near_bits`.
    """
    rows = extra.rows.join(decoded.facts(extra.rows["image"]))
    near, _ = find_duplicates(
        pd.concat([good[rows.columns.intersection(good.columns)], rows], ignore_index=True), near_bits
    )
    # Groups are named by their first image, and the table's images come first.
    alone = ((near["group"] >= len(good)) & ~near["between"]).to_numpy()[len(good) :]
    for column in extra.rows.columns.difference(["image", "labels", "row"]):
        groups = set(good[column].map(without_spelling)) - {""}
        alone = alone & ~rows[column].map(without_spelling).isin(groups).to_numpy()
    rows = rows[alone].reset_index(drop=True)
    rows["fold"], rows["group"] = NO_FOLD, len(kept) + np.arange(len(rows))
    told = {"file": extra.path.name, "sha256": file_hash(extra.path), "rows": len(alone), "used": int(alone.sum())}
    return pd.concat([kept, rows[kept.columns.intersection(rows.columns)]], ignore_index=True), told
