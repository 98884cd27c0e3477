"""Overlay labels that a person corrected: a copy of reports/relabel.csv in which rows are accepted.

`report` writes the table, a person reviews it, and `prepare.relabel` names the reviewed file.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plant_pathology.competition.added_table import read_added_table
from plant_pathology.competition.spec import Competition, Target
from plant_pathology.competition.train_table import TrainTable, cell_problems, problems_of
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import file_hash
from plant_pathology.inference.tables import places, shown

COLUMNS = ["image", "labels", "suggested", "probability", "accept"]  # probability is for the reader alone
ACCEPTED, REJECTED = ("yes", "y", "x", "1", "true"), ("no", "n", "0", "false", "")


def cell_of(labels: Sequence[str], target: Target) -> str:
    """Return an image's labels as a cell of the table."""
    return separator_of(target).join(labels)


def labels_of(cell: str, target: Target) -> tuple[str, ...]:
    """Return the labels in a cell, as `TrainTable` has them."""
    if target.kind != "several":
        return (cell,)
    return tuple(cell.split(separator_of(target))) if cell or target.column is not None else ()


def separator_of(target: Target) -> str:
    """Return the text between labels; names of columns may have spaces in them."""
    return target.separator if target.column is not None else "|"


def relabeled(
    train: TrainTable, name: str | None, folder: Path, competition: Competition
) -> tuple[TrainTable, dict[str, Any] | None]:
    """Return the training table with the suggested labels of accepted rows, and what manifest.json says of the file.

    An image that the table lists more than once is corrected in all its rows. Two columns are added: `relabeled`,
    whether the row is corrected; `listed`, what the table lists, or the correction where that is no label.

    Args:
        name: of the reviewed file; None for none.
        folder: that it is in, which DVC watches: `paths.code`.

    Raises:
        UserError: the file or one of its rows cannot be used; names the first such row.
    """
    rows = train.rows.assign(listed=train.rows["labels"], relabeled=False)
    if name is None:
        return replace(train, rows=rows), None
    needed = [each for each in COLUMNS if each != "probability"]
    path, table = read_added_table("prepare.relabel", name, folder, needed)
    rows_of = rows[rows["image"].isin(table["image"])].groupby("image").groups
    kind, known, seen = competition.target.kind, set(train.labels), set()
    listed, cells, corrected = rows["listed"].tolist(), rows["labels"].tolist(), rows["relabeled"].tolist()
    for place, row in enumerate(table[needed].itertuples(index=False)):
        accept = row.accept.strip().lower()
        suggested = labels_of(row.suggested, competition.target)
        problem = None
        if accept not in (*ACCEPTED, *REJECTED):
            problem = f"accept is {shown(row.accept)}: write yes, or no, or leave it empty"
        elif row.image not in rows_of:
            problem = f"{train.source} has no image {shown(row.image)}: correct the name, or remove the row"
        elif row.image in seen:
            problem = f"{shown(row.image)} is there before: remove one of the rows"
        elif accept in ACCEPTED:
            today = [cells[at] for at in rows_of[row.image]]
            if set(labels_of(row.labels, competition.target)) not in map(set, today):
                problem = (
                    f"the labels of {shown(row.image)} were {shown(row.labels)}, and are"
                    f" {shown(cell_of(today[0], competition.target))} in {train.source} today: review it again"
                )
            elif wrong := cell_problems(suggested, known, kind):
                problem = f"suggested: {wrong[0]}: correct it"
        if problem:
            raise UserError(f"{path}, {places(path, [place])[0]}: {problem}")
        seen.add(row.image)
        if accept in ACCEPTED:
            for at in rows_of[row.image]:
                cells[at], corrected[at] = suggested, True
                if cell_problems(listed[at], known, kind):
                    listed[at] = suggested
    rows = rows.assign(listed=listed, labels=cells, relabeled=corrected)
    rows["problems"] = problems_of(rows, train.labels, kind)
    return replace(train, rows=rows), {"file": name, "sha256": file_hash(path), "rows": len(table)}
