"""Read tables (CSV, COCO json), and fill path templates such as `train/{species}/{file}` from their columns.

Cells are text, as they stand in the file: an id `007` or a label `no` is not turned into a number or a truth value, and
`NA` is not taken as missing.
"""

import csv
import difflib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from plant_pathology.inference.file_kinds import in_its_place

FIELD = re.compile(r"\{([^{}]+)\}")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # that a file may have where a CSV has commas
LONGEST = 60  # characters of a cell that a message shows
LONGEST_CELL = 2**31 - 1  # Python's own limit, 131,072 characters, is less than the mask of an image takes


class LayoutError(ValueError):
    """A competition's files are not as its config says; the message names what was found instead."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text; a column without a name is called "".

    Args:
        path: a .csv file; or a .json file, which is a list of objects or COCO's images, annotations and categories.

    Raises:
        LayoutError: the file is missing or no such table, or two of its columns have one name.
    """
    try:
        if path.exists() and not path.is_file():  # a named pipe would be waited for, without an end
            raise LayoutError(" is no file")
        if strange := in_its_place(path):
            raise LayoutError(f" is {strange}")
        table = read_json(path) if path.suffix == ".json" else read_csv(path)
    except FileNotFoundError:
        beside = sorted(each.name for each in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        found = f"; {path.parent} has {', '.join(beside[:8])}" if beside else ""
        raise LayoutError(f"{path} does not exist{found}") from None
    except UnicodeDecodeError as error:
        raise LayoutError(f"{path}{encoding_problem(path, error)}") from None
    except json.JSONDecodeError as error:
        raise LayoutError(f"{path}, line {error.lineno}, is not JSON ({error.msg}, column {error.colno})") from None
    except LayoutError as error:
        raise LayoutError(f"{path}{error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # pandas' errors are ValueErrors
        raise LayoutError(f"{path} is not a table that can be read ({type(error).__name__}: {error})") from None
    names = table.columns[table.columns != ""]
    if names.has_duplicates:
        raise LayoutError(f"{path} has two columns of one name: {shown(names[names.duplicated()][0])}")
    return table


def encoding_problem(path: Path, error: UnicodeDecodeError) -> str:
    """Return where a file is no UTF-8, and what to do."""
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return " is UTF-16 or UTF-32 text: save it as UTF-8"
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as first:
        error = first  # the one that was raised counts from the block that was being read
    line = content.count(b"\n", 0, error.start) + 1
    return f", line {line}, is not UTF-8 text (byte 0x{error.object[error.start]:02x}): save it as UTF-8"


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV.

    pandas alone would name an empty header cell "Unnamed: 0", but the submission needs the file's own header; and it
    would fill up short rows and cut long ones without a word.

    Raises:
        LayoutError: what is wrong and where; the path belongs before the message.
    """
    rows = csv_rows(path)
    _, header = next(rows, (1, []))
    if not header:
        raise LayoutError(" is empty")
    if len(header) == 1 and (other := next((each for each in SEPARATORS if each in header[0]), None)):
        raise LayoutError(f" has {SEPARATORS[other]} between its columns: save it with commas")
    for line, cells in rows:
        if len(cells) != len(header):
            raise LayoutError(
                f", line {line}, has {len(cells)} cells, and the header has {len(header)}: correct it; a cell with a"
                " comma in it needs quotes"
            )
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


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV, the header first: the line on which each begins, and its cells; no blank lines.

    Raises:
        LayoutError: a quoted cell does not end, or there are NUL bytes.
    """
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, line = csv.reader(file, strict=True), 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise LayoutError(f", line {line}, is no row of a CSV ({error}): correct its quotes") from None
            if "\0" in "".join(cells):
                raise LayoutError(
                    f", line {line}, holds NUL bytes, as UTF-16 text does, and a file after a crash: save it as UTF-8,"
                    " or copy it again"
                )
            if cells:
                yield line, cells
            line = reader.line_num + 1


def places(path: Path, rows: Sequence[int]) -> list[str]:
    """Return where rows of a table are in its file, such as "line 7"; quoted cells may have several lines.

    Args:
        path: that `read_table` read, or anything else that rows may come from.
        rows: positions, from 0.
    """
    if path.suffix != ".csv" or not path.is_file():
        return [f"{'file' if path.is_dir() else 'entry'} {row + 1}" for row in rows]
    wanted, found = set(rows), {}
    for number, (line, _) in enumerate(csv_rows(path), start=-1):
        if number in wanted:
            found[number] = f"line {line}"
    return [found[row] for row in rows]


def shown(text: object) -> str:
    """Return a cell or a name for a message: in quotes, and cut if it is long."""
    text = str(text)
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "…")


def read_json(path: Path) -> pd.DataFrame:
    """Read a list of objects; or COCO's json as one row per annotation, or per image where there are none.

    A row has the columns of its image and its annotation, and those of its category with `category_` before them.

    Raises:
        LayoutError: as for `read_csv`.
    """
    content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, list):
        return as_text(content, "its list")
    if not isinstance(content, dict) or "images" not in content:
        has = f", but {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else ""
        raise LayoutError(f" is neither a list of objects nor COCO's json, which has images{has}")
    table = as_text(content["images"], "images")
    if not content.get("annotations"):
        return table
    notes = as_text(content["annotations"], "annotations").drop(columns="id", errors="ignore")
    key = key_of(table, "image_id")
    for names, name, where in ((notes, "image_id", "annotations"), (table, key, "images")):
        if name not in names:
            raise LayoutError(f" has no {name} in its {where}")
    unknown = notes.index[~notes["image_id"].isin(table[key])]
    if len(unknown):
        raise LayoutError(
            f", entry {unknown[0] + 1} of annotations: there is no image {shown(notes['image_id'][unknown[0]])}"
        )
    table = notes.merge(table, left_on="image_id", right_on=key, suffixes=("", "_of_image"))
    categories = as_text(content.get("categories", []), "categories")
    if "category_id" in table and len(categories):
        key = key_of(categories, "category_id")
        named = categories.rename(columns=lambda name: name if name.startswith("category_") else f"category_{name}")
        named = named.rename(columns={f"category_{key}": "category_id"})
        table = table.merge(named.drop_duplicates("category_id"), on="category_id", how="left").fillna("")
    return table


def key_of(table: pd.DataFrame, name: str) -> str:
    """Return the column that identifies COCO's images or categories: `name`, or else id."""
    return name if name in table else "id"


def as_text(rows: Any, where: str) -> pd.DataFrame:
    """Return objects of a json as a table of text.

    Args:
        where: they are, for messages.
    """
    if not isinstance(rows, list):
        raise LayoutError(f": {where} is no list")
    if strange := [number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)]:
        raise LayoutError(f", entry {strange[0]} of {where}, is no object with names and values")
    return pd.DataFrame(rows, dtype=object).map(lambda cell: "" if cell is None or cell != cell else str(cell))


def require(columns: list[str], table: pd.DataFrame, where: str) -> None:
    """Check that a table has these columns.

    Raises:
        LayoutError: naming the first that is missing, and those that there are.
    """
    for column in columns:
        if column not in table:
            names = [name if name == name.strip() and name.isprintable() else repr(name) for name in map(str, table)]
            near = difflib.get_close_matches(column, names, n=1, cutoff=0.5)
            has = ", ".join(name[:LONGEST] for name in names[:12]) + (", …" if len(names) > 12 else "")
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
        LayoutError: no file fits, or the name of one is not UTF-8.
    """
    literals_and_fields = FIELD.split(template)
    names = list(dict.fromkeys(literals_and_fields[1::2]))
    pattern = re.escape(literals_and_fields[0])
    for place, (field, literal) in enumerate(zip(literals_and_fields[1::2], literals_and_fields[2::2], strict=True)):
        first = literals_and_fields[1::2].index(field) == place
        group = f"f{names.index(field)}"
        pattern += (f"(?P<{group}>[^/]+)" if first else f"(?P={group})") + re.escape(literal)
    files = files_below(folder, root_of(template))
    if strange := next((name for name in files if not is_utf8(name)), None):
        raise LayoutError(f"{folder}: {ascii(strange)} is not UTF-8: rename this file")
    found = [hit.groups() for hit in map(re.compile(pattern).fullmatch, files) if hit]
    if not found:
        example = f", such as {files[0]}" if files else ""
        raise LayoutError(f"none of the {len(files)} files in {folder / root_of(template)} is a {template}{example}")
    return pd.DataFrame(found, columns=pd.Index(names), dtype=str)


def is_utf8(name: str) -> bool:
    """Return whether a file's name is UTF-8; Python keeps other bytes as surrogates, which no table can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        folders[:] = [name for name in folders if not name.startswith(".") and not leads_back(path, name)]
        inside = Path(path).relative_to(folder).as_posix()
        found += [name if inside == "." else f"{inside}/{name}" for name in files if not name.startswith(".")]
    return sorted(found)


def leads_back(folder: str, name: str) -> bool:
    """Return whether an entry of a folder is a link to that folder or one above it, which would have no end."""
    path = os.path.join(folder, name)
    above = os.path.join(os.path.realpath(folder), "")
    return os.path.islink(path) and above.startswith(os.path.join(os.path.realpath(path), ""))
