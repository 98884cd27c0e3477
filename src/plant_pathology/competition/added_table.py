"""Read a table that a person adds to those of the competition, and that a key of `prepare:` names."""

from pathlib import Path, PurePosixPath

import pandas as pd

from plant_pathology.core.errors import UserError
from plant_pathology.inference.tables import LayoutError, read_table, require


def read_added_table(key: str, name: str, folder: Path, columns: list[str]) -> tuple[Path, pd.DataFrame]:
    """Return the path of the file that a key names, and its table.

    Args:
        key: such as prepare.relabel, for errors.
        name: the key's value: path of the file, below the folder.
        folder: one that DVC watches, so that `prepare` runs again when the file changes.
        columns: that it must have.

    Raises:
        UserError: the file is elsewhere, is missing, cannot be read, or lacks a column.
    """
    path = added_path(key, name, folder)
    try:
        table = read_table(path)
        require(columns, table, str(path))
    except LayoutError as error:
        raise UserError(f"{key}={name}: {error}") from None
    return path, table


def added_path(key: str, name: str, folder: Path) -> Path:
    """Return the path of the file that a key names; arguments as in `read_added_table`.

    Raises:
        UserError: the file is elsewhere.
    """
    if leads_out(name):
        raise UserError(f"{key}={name}: name a file in {folder}, which DVC watches: copy it there")
    return folder / name


def leads_out(name: str) -> bool:
    """Return whether a path leads out of the folder below which it is meant."""
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
