"""List what a competition's folder holds: its images, its tables, and texts that may name labels."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from plant_pathology.competition.templates import Images
from plant_pathology.competition.train_table import IMAGES
from plant_pathology.core.errors import UserError
from plant_pathology.inference.tables import LayoutError, files_below, read_table

MOST_TABLES = 30  # in a folder
LARGEST = 2**30  # bytes of a table that is read


@dataclass(frozen=True)
class Seen:
    """What a folder holds.

    Args:
        images: its image files.
        tables: by file; csv and json files that can be read as tables.
        names: by file, and column where it has several, the cells of small tables, which may name labels.
    """

    images: Images
    tables: dict[str, pd.DataFrame]
    names: dict[str, set[str]]


def see(folder: Path) -> Seen:
    """List the images, and read the tables in the folder and in those directly below it.

    Raises:
        UserError: there is no image.
    """
    files = files_below(folder, "")
    images = Images(frozenset(path for path in files if PurePosixPath(path).suffix.lower() in IMAGES))
    if not images.paths:
        raise UserError(
            f"{folder} has no images ({', '.join(sorted(IMAGES))}): unpack its archives, or download it again"
        )
    near = [path for path in files if path.count("/") <= 1 and PurePosixPath(path).suffix in (".csv", ".json")]
    beside = Counter(PurePosixPath(path).parent for path in near)
    tables: dict[str, pd.DataFrame] = {}
    names: dict[str, set[str]] = {}
    for path in near:
        # A folder with more of them holds one per image.
        if beside[PurePosixPath(path).parent] > MOST_TABLES or (folder / path).stat().st_size > LARGEST:
            continue
        try:
            table = read_table(folder / path).rename(columns=str)
        except LayoutError:
            names |= keys_of_json(folder / path, path)
        else:
            tables[path] = table.loc[:, ~table.columns.duplicated()]
            names |= keys_of_table(tables[path], path)
    return Seen(images, tables, names)


def keys_of_json(file: Path, path: str) -> dict[str, set[str]]:
    """Return the keys of a json object whose values are text, such as {"0": "healthy"}."""
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if path.endswith(".json") else None
    except ValueError:
        return {}
    named = isinstance(content, dict) and all(isinstance(value, str) for value in content.values())
    return {path: set(content)} if named else {}  # type: ignore[arg-type]  # it is a dict


def keys_of_table(table: pd.DataFrame, path: str) -> dict[str, set[str]]:
    """Return the cells of each column that a second column, of text, may name: each is there once."""
    texts = [each for each in table if not pd.to_numeric(table[each], errors="coerce").notna().any()]
    once = [each for each in table if table[each].is_unique and len(table) > 1]
    return {f"{path} ({each})": set(table[each]) for each in once if set(texts) - {each}}
