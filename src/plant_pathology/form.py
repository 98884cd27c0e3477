"""What Kaggle asks of a submission.csv before it scores one."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from plant_pathology.competition import Competition


@dataclass(frozen=True)
class Check:
    """One thing that must hold before the kernel is worth a submission."""

    passed: bool
    detail: str


def check_submission(path: Path, form: pd.DataFrame, competition: Competition) -> Check:
    """Columns, images and their order as sample_submission.csv has them; labels of the vocabulary in every row."""
    if not path.exists():
        return Check(False, "the kernel wrote no submission.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) != list(form.columns):
        return Check(False, f"columns are {list(table.columns)}, not {list(form.columns)}")
    images = table[competition.image_column]
    if list(images) != list(form[competition.image_column]):
        return Check(False, "the images are not those of sample_submission.csv in its order")
    rows = competition.label_lists(table[competition.label_column])
    wrong = [image for image, row in zip(images, rows, strict=True) if not set(row) <= set(competition.labels)]
    if wrong:
        return Check(False, f"{len(wrong)} rows have empty or unknown labels, {wrong[0]} first")
    return Check(True, f"{len(table)} rows")
