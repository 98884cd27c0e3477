"""Read tables (CSV, COCO json), and fill path templates such as `train/{species}/{file}` from their columns.

Cells are text, as they stand in the file: an id `007` or a label `no` is not turned into a number or a truth value.
"""

import csv
import difflib
import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd

FIELD = re.compile(r"\{([^{}]+)\}")


class LayoutError(ValueError):
    """A competition's files are not as its config says; the message names what was found instead."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text; a column without a name is called "".

    Args:
        path: a .csv file; or a .json file, which is a list of objects or COCO's images, annotations and categories.

    Raises:
        LayoutError: the file is missing or no such table.
    """
    try:
        return read_json(path) if path.suffix == ".json" else read_csv(path)
    except FileNotFoundError:
        beside = sorted(each.name for each in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        found = f"; {path.parent} has {', '.join(beside[:8])}" if beside else ""
        raise LayoutError(f"{path} does not exist{found}") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:  # pandas' and json's errors are ValueErrors
        raise LayoutError(f"{path} is not a table that can be read ({type(error).__name__}: {error})") from None


def read_csv(path: Path) -> pd.DataFrame:
    # pandas would name an empty header cell "Unnamed: 0", but the submission needs the file's own header.
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise ValueError("it is empty")
    table = pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        header=0,
        names=range(len(header)),
        index_col=False,
        encoding="utf-8-sig",
    )
    return table.set_axis(pd.Index(header), axis=1)


def read_json(path: Path) -> pd.DataFrame:
    """Read a list of objects; or COCO's json as one row per annotation, or per image where there are none.

    A row has the columns of its image and its annotation, and those of its category with `category_` before them.
    """
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        return as_text(content)
    table = as_text(content["images"])
    if not content.get("annotations"):
        return table
    notes = as_text(content["annotations"]).drop(columns="id", errors="ignore")
    table = notes.merge(table, left_on="image_id", right_on=key_of(table, "image_id"), suffixes=("", "_of_image"))
    categories = as_text(content.get("categories", []))
    if "category_id" in table and len(categories):
        key = key_of(categories, "category_id")
        named = categories.rename(columns=lambda name: name if name.startswith("category_") else f"category_{name}")
        named = named.rename(columns={f"category_{key}": "category_id"})
        table = table.merge(named.drop_duplicates("category_id"), on="category_id", how="left").fillna("")
    return table


def key_of(table: pd.DataFrame, name: str) -> str:
    """Return the column that identifies COCO's images or categories: `name`, or else id."""
    return name if name in table else "id"


def as_text(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, dtype=object).map(lambda cell: "" if cell is None or cell != cell else str(cell))


def require(columns: list[str], table: pd.DataFrame, where: str) -> None:
    """Check that a table has these columns.

    Raises:
        LayoutError: naming the first that is missing, and those that there are.
    """
    for column in columns:
        if column not in table:
            near = difflib.get_close_matches(column, [str(name) for name in table], n=1, cutoff=0.5)
            has = ", ".join(str(name) for name in table.columns[:12]) + (", …" if len(table.columns) > 12 else "")
            suggestion = f"; did you mean {near[0]}?" if near else ""
            raise LayoutError(f"{where} has no column {column}, but {has}{suggestion}")


def fill(template: str, table: pd.DataFrame, where: str) -> list[str]:
    """Return the path of each row.

    Raises:
        LayoutError: the template names a column that the table does not have.
    """
    literals_and_fields = FIELD.split(template)
    require(literals_and_fields[1::2], table, where)
    paths = pd.Series(literals_and_fields[0], table.index)
    for field, literal in zip(literals_and_fields[1::2], literals_and_fields[2::2], strict=True):
        paths = paths + table[field] + literal
    return paths.tolist()


def match(template: str, folder: Path) -> pd.DataFrame:
    """Return the files that fit a template, one row per file in sorted order, with its fields as columns.

    Raises:
        LayoutError: no file fits.
    """
    literals_and_fields = FIELD.split(template)
    names = list(dict.fromkeys(literals_and_fields[1::2]))
    pattern = re.escape(literals_and_fields[0])
    for place, (field, literal) in enumerate(zip(literals_and_fields[1::2], literals_and_fields[2::2], strict=True)):
        first = literals_and_fields[1::2].index(field) == place
        group = f"f{names.index(field)}"
        pattern += (f"(?P<{group}>[^/]+)" if first else f"(?P={group})") + re.escape(literal)
    files = files_below(folder, root_of(template))
    found = [hit.groups() for hit in map(re.compile(pattern).fullmatch, files) if hit]
    if not found:
        example = f", such as {files[0]}" if files else ""
        raise LayoutError(f"none of the {len(files)} files in {folder / root_of(template)} is a {template}{example}")
    return pd.DataFrame(found, columns=pd.Index(names), dtype=str)


def root_of(template: str) -> str:
    """Return the folder that a template names before its first field: train_images of train_images/{id}.jpg."""
    return template.partition("{")[0].rpartition("/")[0]


def files_below(folder: Path, root: str) -> list[str]:
    """Return the paths, relative to `folder`, of all files below `root`, sorted; hidden files are left out.

    Raises:
        LayoutError: there is no such folder.
    """
    top = folder / root
    if not top.is_dir():
        beside = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
        raise LayoutError(f"{top} is not a folder" + (f"; {folder} has {', '.join(beside[:8])}" if beside else ""))
    found = []
    for path, folders, files in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(path).relative_to(folder).as_posix()
        found += [name if inside == "." else f"{inside}/{name}" for name in files if not name.startswith(".")]
    return sorted(found)
