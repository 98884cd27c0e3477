"""Compare the form on Kaggle with the one that was downloaded: a host may correct it, and old answers fail."""

import tempfile
from pathlib import Path

from plant_pathology.competition.form import read_form
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.inference.tables import LayoutError, read_table
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.progress import show

LARGEST = 20_000_000  # bytes; a larger form is not downloaded for this


def check_form_is_current(kaggle: Kaggle, competition: Competition, raw: Path) -> None:
    """Check that the form has the columns and ids that it had when the competition was downloaded.

    Where Kaggle does not give the file alone, or it is large, say so and go on.

    Raises:
        UserError: it has changed.
    """
    name, ours = competition.test.form, read_form(competition, raw)
    if (raw / name).stat().st_size > LARGEST:
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            kaggle.download_form(competition.name, name, Path(folder))
            theirs = read_table(Path(folder) / name)
        except (UserError, LayoutError) as error:
            show("form", f"not compared with Kaggle's ({error})")
            return
    columns = list(theirs.columns)
    if columns != list(ours.table.columns):
        difference = f"it has the columns {columns}, not {list(ours.table.columns)}"
    elif list(theirs[ours.id]) != list(ours.table[ours.id]):
        new = sorted({*theirs[ours.id]} - {*ours.table[ours.id]})
        difference = f"it has {len(theirs)} rows, not {len(ours.table)}" + (f", {new[0]} among the new" if new else "")
        difference = difference if len(theirs) != len(ours.table) or new else "its rows are in another order"
    else:
        return
    raise UserError(
        f"{name} on Kaggle has changed since it was downloaded: {difference}: move {raw} away, run"
        f" `{competition.download}`, then `make repro`"
    )
