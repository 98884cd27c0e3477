"""Write relabel.csv: all likely label errors, for a person to review (competition/relabel.py reads the result)."""

from pathlib import Path

import pandas as pd

from plant_pathology.competition.relabel import COLUMNS, cell_of
from plant_pathology.competition.spec import Target
from plant_pathology.reporting.galleries import likely_label_errors
from plant_pathology.reporting.selection_tables import SelectionTables
from plant_pathology.selection.tables import write_table


def write_relabel(path: Path, selection: SelectionTables, target: Target) -> None:
    """Write one row per image whose labels are likely wrong, the likeliest first; no row for numbers.

    Columns: image; labels, as given; suggested, what the networks decide that were not trained on it; probability of
    the suspect label to be wrong, as they predict it; accept, empty.
    """
    rows, suspects = likely_label_errors(selection)
    content = []
    for row, suspect in zip(rows.tolist(), suspects.tolist(), strict=True):
        of_label = float(selection.outputs[row, suspect])
        given = selection.true.ndim == 1 or selection.true[row, suspect]
        content.append(
            {
                "image": selection.predictions["image"].iloc[row],
                "labels": cell_of(selection.names(selection.true[row]), target),
                "suggested": cell_of(selection.names(selection.predicted[row]), target),
                "probability": round(1 - of_label if given else of_label, 4),
                "accept": "",
            }
        )
    write_table(path, pd.DataFrame(content, columns=COLUMNS))
