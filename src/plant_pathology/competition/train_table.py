"""Read the training images of a competition: the file of each, what is true of it, and what is wrong with it."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from plant_pathology.competition.form import layout_errors, read_form
from plant_pathology.competition.labels import alike_labels, found_labels, is_whole, listed_labels
from plant_pathology.competition.own_code import own_errors, own_module
from plant_pathology.competition.similar_files import IMAGES, SimilarFiles
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.inference import tables
from plant_pathology.inference.tables import places, shown

LARGEST = 1e15  # the network computes in 32 bits, and sums of squares must stay finite
LEAST_STEPS = 1000  # of 32 bits that the numbers must be spread by, so that rounding is a thousandth of the spread
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)


@dataclass(frozen=True)
class TrainTable:
    """The training images.

    Args:
        rows: one per line of the table, in its order: `image`, the path below `folder`; `labels`, a tuple of texts, for
            a number its text alone; `Competition.group_columns`; `row`, its position in the table as read; `present`,
            whether there is such a file; `missing`, why there is none, else empty; `problems`, a list of messages about
            the row.
        labels: all labels, in the order of the network's outputs; none for a number.
        folder: the folder of the images.
        source: the table's file, or the folder where there is no table, for messages.
        unlisted: images in the folder that the table does not list.
    """

    rows: pd.DataFrame
    labels: list[str]
    folder: Path
    source: Path
    unlisted: list[str]


def read_train(competition: Competition, raw: Path) -> TrainTable:
    """Read the training table and list the files.

    Args:
        raw: the competition's folder, as Kaggle ships it.

    Raises:
        UserError: a file, a column or a label is not as the competition's config says, or there is no image.
    """
    if not raw.is_dir():
        raise UserError(
            f"{raw} does not exist: run `make repro` (sample), `make repro RAW=<folder>` or `{competition.download}`"
        )
    root = tables.root_of(competition.files)
    source = raw / (competition.table or root)
    with layout_errors(competition, "train"):
        table, paths = read_table(competition, raw, source)
        tables.require(competition.groups, table, str(source))
        present = set(tables.files_below(raw, root))
    if table.empty:
        raise UserError(f"{source} lists no images: download the competition again ({competition.download})")
    check_groups(table[competition.groups], source)
    cells, names = label_cells(competition, table, raw, source)
    labels = all_labels(competition, cells, names, raw, source)
    if competition.table and competition.table.endswith(".json"):
        table, paths, cells = without_repeated_annotations(table, paths, cells, competition.target.kind)
    rows = pd.DataFrame({"image": [name.removeprefix(f"{root}/") for name in paths], "labels": cells})
    rows[competition.group_columns] = table[competition.groups].to_numpy()
    rows["row"] = table.index
    rows["present"] = [path in present for path in paths]
    files = SimilarFiles(present if not rows["present"].all() else ())
    if not rows["present"].any():
        found = files.explain(paths[0]) or (f"; there is {min(present)}" if present else f"; {raw / root} is empty")
        raise UserError(
            f"{source}: none of its {len(rows)} images is there, first {place_of(source, rows['row'][0])}:"
            f" train.files={competition.files} makes it {shown(paths[0])}{found}: correct competition.train.files in"
            f" {competition.file}, or download the competition again"
        )
    rows["missing"] = [
        "" if there else missing_file(path, files) for path, there in zip(paths, rows["present"], strict=True)
    ]
    rows["problems"] = problems_of(rows, labels, competition.target.kind)
    unlisted = [name for name in present - set(paths) if PurePosixPath(name).suffix.lower() in IMAGES]
    listed = [name.removeprefix(f"{root}/") for name in sorted(unlisted)]
    return TrainTable(rows, labels, raw / root, source, [] if shares_folder(competition, root) else listed)


def read_table(competition: Competition, raw: Path, source: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the table and the path of each row's image, relative to `raw`."""
    if competition.code and hasattr(own_module(competition.code), "read_train"):
        table = own_table(competition.code, raw)
    elif competition.table:
        table = tables.read_table(source)
    else:
        table = tables.match(competition.files, raw)
    return table, tables.fill(competition.files, table, str(source))


def own_table(code: Path, raw: Path) -> pd.DataFrame:
    """Return what the competition's own read_train returns.

    Raises:
        UserError: it fails, or its result is no table of text.
    """
    with own_errors(code, "read_train"):
        table = own_module(code).read_train(raw)
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"{code}: read_train returns {type(table).__name__}: return a pandas.DataFrame")
    for column in table:
        if strange := next((cell for cell in table[column] if not isinstance(cell, str)), None):
            raise UserError(
                f"{code}: the column {column} of read_train holds {shown(strange)}, which is {type(strange).__name__}:"
                " make all cells text, as by dtype=str, keep_default_na=False of pandas.read_csv"
            )
    return table.reset_index(drop=True)


def check_groups(columns: pd.DataFrame, source: Path) -> None:
    """Refuse two groups that look like one, which folds would split.

    Raises:
        UserError: there are such groups.
    """
    for name, column in columns.items():
        if alike := alike_labels(text for text in column.unique() if text.strip()):
            one, other = (f"{shown(text)} ({place_of(source, int((column == text).argmax()))})" for text in alike)
            raise UserError(
                f"{source}, column {name}: {one} and {other} look like one group, and folds would split it: write it in"
                " one way; or, if they are two groups, rename one"
            )


def shares_folder(competition: Competition, root: str) -> bool:
    """Return whether test images are in the same folder, so that files that the table does not list are usual."""
    return tables.root_of(competition.test.files) == root


def label_cells(
    competition: Competition, table: pd.DataFrame, raw: Path, source: Path
) -> tuple[list[tuple[str, ...]], list[str] | None]:
    """Return each row's labels as texts, and the names of the columns where each label has one."""
    target = competition.target
    if target.column is not None:
        with layout_errors(competition, "target.column"):
            tables.require([target.column], table, str(source))
        cells = table[target.column].tolist()
        if target.kind == "several":
            return [tuple(cell.split(target.separator)) for cell in cells], None
        return [(cell,) for cell in cells], None
    names = target.columns and [str(name) for name in target.columns]
    if not names:
        names = [column for column in read_form(competition, raw).answers if column in table]
    if not names:
        raise UserError(
            f"{competition.file}: target.column is missing, and {source} has no column of the form: set target.column"
            f" to one of {', '.join(map(str, table.columns[:12]))}"
        )
    with layout_errors(competition, "target.columns"):
        tables.require(names, table, str(source))
    numbers = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not np.isin(numbers, (0, 1)).all():
        row, column = np.argwhere(~np.isin(numbers, (0, 1)))[0]
        raise UserError(
            f"{source}, {place_of(source, table.index[row])}, column {names[column]}:"
            f" {shown(table[names[column]].iloc[row])} is neither 0 nor 1: correct it, or set target.column in"
            f" {competition.file} if there is one column with the label"
        )
    array = np.array(names, object)
    return [tuple(array[row]) for row in numbers.astype(bool)], names


def all_labels(
    competition: Competition, cells: list[tuple[str, ...]], names: list[str] | None, raw: Path, source: Path
) -> list[str]:
    """Return the labels that the config lists, those of the columns, or those of the table, sorted.

    Where the form has a column for each of them, the labels are the form's: it may have more, without an image.

    Raises:
        UserError: the listed labels do not fit the table's, labels with an order are not whole numbers, or two labels
            of the table look like one; or numbers are as for `check_spread`.
    """
    target = competition.target
    if target.kind == "number":
        check_spread(cells, source, competition)
        return []
    texts = [text for cell in cells for text in cell if text]
    if target.labels is not None:
        return listed_labels(target.labels, texts, f"{competition.file}: target.labels")
    labels = names or found_labels(texts)
    if alike := alike_labels(labels):
        one, other = (next((row for row, cell in enumerate(cells) if label in cell), 0) for label in alike)
        raise UserError(
            f"{source}, column {target.column or ''}: {shown(alike[0])} ({place_of(source, one)}) and {shown(alike[1])}"
            f" ({place_of(source, other)}) look like one label: correct the table; or, if they are two labels, list all"
            f" in target.labels in {competition.file}"
        )
    if not names and competition.submit.as_ == "columns":
        columns = read_form(competition, raw).answers
        labels = columns if set(labels) <= set(columns) else labels
    if target.kind == "ordinal" and not all(map(is_whole, labels)):
        raise UserError(
            f"{competition.file}: the order of {', '.join(labels[:6])} is unknown: list target.labels from low to high"
        )
    if len(labels) < 2 and target.kind != "several":
        found = f"have the same label, {shown(labels[0])}" if labels else "have no label"
        raise UserError(f"{source}: all images {found}: correct target.column or target.labels in {competition.file}")
    return labels


def check_spread(cells: list[tuple[str, ...]], source: Path, competition: Competition) -> None:
    """Refuse numbers that are all equal, or that 32 bits, in which the network computes, hardly tell apart.

    Raises:
        UserError: they are.
    """
    numbers = np.array([float(text) for (text,) in cells if is_number(text)])
    if len(numbers) < 2:
        return
    low, high = numbers.min(), numbers.max()
    if low == high:
        raise UserError(
            f"{source}: all images have the same number, {shown(f'{low:.15g}')}: correct target.column in"
            f" {competition.file}"
        )
    step = np.spacing(np.abs(numbers).max().astype(np.float32))
    if numbers.std() < LEAST_STEPS * step:
        raise UserError(
            f"{source}, column {competition.target.column}: the numbers, {low:.15g} to {high:.15g}, differ too little"
            f" for their size: in 32 bits one is {step:g} from the next; subtract the same number from all of them, and"
            " add it to the submission"
        )


def without_repeated_annotations(
    table: pd.DataFrame, paths: list[str], cells: list[tuple[str, ...]], kind: str
) -> tuple[pd.DataFrame, list[str], list[tuple[str, ...]]]:
    """Keep one row per image of COCO's annotations, with all its labels; of equal rows where only one is allowed.

    The index of the table that is returned holds the rows' positions in the table that was given.
    """
    rows = pd.DataFrame({"path": paths, "cell": cells})
    if kind == "several":
        united = rows.groupby("path", sort=False)["cell"].agg(lambda each: tuple(dict.fromkeys(sum(each, ()))))
        first = rows.drop_duplicates("path").index
        return table.iloc[first], united.index.tolist(), united.tolist()
    first = rows.drop_duplicates().index
    kept = rows.iloc[first]
    return table.iloc[first], kept["path"].tolist(), kept["cell"].tolist()


def problems_of(rows: pd.DataFrame, labels: list[str], kind: str) -> list[list[str]]:
    """Return what is wrong with each row.

    Args:
        rows: image, labels, missing, as `TrainTable` has them.
        labels: all labels; none for a number.
    """
    known, repeated = set(labels), repeated_images(rows)
    return [
        cell_problems(cell, known, kind)
        + ([repeated[line]] if line in repeated else [])
        + ([missing] if missing else [])
        for line, (cell, missing) in enumerate(zip(rows["labels"], rows["missing"], strict=True))
    ]


def missing_file(path: str, files: SimilarFiles) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return "not a path in the competition's folder"
    if path.endswith("/"):
        return "the name of the image is empty"
    if hidden := next((part for part in PurePosixPath(path).parts if part.startswith(".")), None):
        return f"{path}: {shown(hidden)} begins with a dot, and hidden files are left out: rename it"
    return f"there is no file {path}{files.explain(path)}"


def place_of(source: Path, row: int) -> str:
    """Return where a row of the training table is, such as "line 7"."""
    return places(source, [int(row)])[0]


def cell_problems(cell: tuple[str, ...], known: set[str], kind: str) -> list[str]:
    """Return what is wrong with a row's labels or number."""
    if kind == "number":
        return [] if is_number(cell[0]) else [f"{shown(cell[0])} is not a number, such as 0.5 or -1e3"]
    if kind != "several" and len(cell) != 1:
        return [f"{len(cell)} labels ({', '.join(cell)}), where kind={kind} needs one"]
    empty = "no label" if len(cell) == 1 else "an empty label beside a separator"
    return [empty if text == "" else f"unknown label {shown(text)}" for text in cell if text not in known]


def is_number(text: str) -> bool:
    """Return whether a text is a number that the network can learn, which 1e39, nan and 1_000 are not."""
    return bool(NUMBER.fullmatch(text)) and abs(float(text)) <= LARGEST


def repeated_images(rows: pd.DataFrame) -> dict[int, str]:
    """Return a problem for rows that share an image: for all but the first where labels agree, else for all."""
    problems: dict[int, str] = {}
    shared = rows[rows["image"].duplicated(keep=False)]
    for _, group in shared.groupby("image"):
        agree = len({frozenset(cell) for cell in group["labels"]}) == 1
        text = "listed before" if agree else "listed more than once, with different labels"
        problems |= dict.fromkeys(group.index[1:] if agree else group.index, text)
    return problems


def targets_of(cells: pd.Series, labels: list[str], kind: str) -> np.ndarray:
    """Return the truth: (n,) float32 numbers, (n,) int32 class numbers, or (n, labels) bool.

    Args:
        cells: each row's labels as a tuple of texts.
    """
    if kind == "number":
        return np.array([float(number) for (number,) in cells], np.float32)
    places = {label: place for place, label in enumerate(labels)}
    if kind != "several":
        return np.array([places[label] for (label,) in cells], np.int32)
    targets = np.zeros((len(cells), len(labels)), bool)
    targets[np.repeat(np.arange(len(cells)), cells.str.len()), [places[label] for cell in cells for label in cell]] = (
        True
    )
    return targets
