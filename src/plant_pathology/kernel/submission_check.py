"""Check a submission.csv as Kaggle does before it scores one."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from plant_pathology.competition.spec import Competition


@dataclass(frozen=True)
class Check:
    """The result of one check of a rehearsal.

    Args:
        detail: the measured values when it passed, else the error, in Kaggle's words where Kaggle has some.
    """

    passed: bool
    detail: str


def check_submission(path: Path, form: pd.DataFrame, competition: Competition) -> Check:
    """Check columns, images and their order against sample_submission.csv, and that every row has known labels.

    Args:
        form: content of sample_submission.csv.
    """
    if not path.is_file():
        return Check(False, f"Submission CSV Not Found: the kernel wrote no {path.name}")
    problem = scoring_problem(path, form, competition)
    return Check(False, f"Submission Scoring Error: {problem}") if problem else Check(True, f"{len(form)} rows")


def scoring_problem(path: Path, form: pd.DataFrame, competition: Competition) -> str | None:
    """Return why Kaggle would not score the file; None where it would."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' EmptyDataError and ParserError; UnicodeDecodeError
        return f"{path.name} is not a CSV table ({error})"
    if list(table.columns) != list(form.columns):
        return f"columns are {list(table.columns)}, not {list(form.columns)}"
    images, expected = table[competition.image_column], form[competition.image_column]
    if images.duplicated().any():
        return f"{images[images.duplicated()].iloc[0]} is listed more than once"
    if set(images) != set(expected):
        return f"the images are not those of {competition.sample_submission}: {len(images)}, not {len(expected)}"
    if list(images) != list(expected):
        return f"the images are not in the order of {competition.sample_submission}"
    for image, row in zip(images, competition.label_lists(table[competition.label_column]), strict=True):
        if unknown := [label for label in row if label not in competition.labels]:
            return f"{image} has empty or unknown labels: {unknown[0]!r}"
        if len(set(row)) < len(row):
            return f"{image} has a label twice: {competition.separator.join(row)}"
    return None
