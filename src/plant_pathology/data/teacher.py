"""Keep soft labels beside the index: what an ensemble predicts for the images of the training table.

`prepare.teacher` names a copy of reports/predictions.npz in data/extra, which `select` wrote: predictions of networks
that were not trained on the image. `model.distill` trains a single network on them and on the labels (Hinton et al.
2015, "Distilling the Knowledge in a Neural Network").
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plant_pathology.competition.added_table import added_path
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.core.hashes import file_hash
from plant_pathology.data.index import TEACHER
from plant_pathology.data.predictions import Predictions, read_predictions
from plant_pathology.inference.tables import shown


@dataclass(frozen=True)
class Teacher:
    """Predictions that networks learn from, and the file that they were read from."""

    predictions: Predictions
    path: Path

    def rows_of(self, images: list[str]) -> np.ndarray:
        """Return the row that predicts each image, -1 where there is none."""
        row_of = {image: row for row, image in enumerate(self.predictions.images.tolist())}
        return np.array([row_of.get(image, -1) for image in images], int)

    def check(self, images: list[str], targets: np.ndarray, source: Path) -> None:
        """Check that what was true for the teacher is true of these images.

        Args:
            images: names.
            targets: what is true of them, as `targets_of` returns it.
            source: the training table, for messages.

        Raises:
            UserError: it was predicted for other data, whose images have the same names.
        """
        rows = self.rows_of(images)
        known = np.flatnonzero(rows >= 0)
        ours, theirs = targets[known], self.predictions.true[rows[known]]
        differ = ours != theirs if ours.shape == theirs.shape else np.ones(len(known), bool)
        wrong = known[differ if differ.ndim == 1 else differ.any(axis=1)]
        if len(wrong):
            raise UserError(
                f"{self.path}: what is true of {len(wrong)} of {len(known)} images, such as {shown(images[wrong[0]])},"
                f" is something else in {source}: copy the predictions of a bundle that was trained on this table; if"
                " labels were corrected since, correct them by prepare.relabel instead"
            )

    def write(self, folder: Path, images: list[str]) -> dict[str, Any]:
        """Write the predictions in the order of the index, and return what manifest.json says of them.

        Args:
            folder: of the prepared data.
            images: names of all rows of the index; one that the teacher did not predict gets NaN.

        Raises:
            UserError: it predicted none of them.
        """
        rows = self.rows_of(images)
        if (rows < 0).all():
            raise UserError(
                f"{self.path} predicts none of the {len(images)} images, such as {shown(images[0])}: copy another"
            )
        soft = np.where(rows[:, None] < 0, np.nan, self.predictions.outputs[rows]).astype(np.float32)
        with atomic_file(folder / TEACHER) as work, work.open("wb") as file:
            np.save(file, soft, allow_pickle=False)
        return {"file": self.path.name, "sha256": file_hash(self.path), "images": int((rows >= 0).sum())}


def read_teacher(name: str | None, folder: Path, labels: list[str]) -> Teacher | None:
    """Read the file that `prepare.teacher` names; None where it names none.

    Args:
        folder: `paths.extra`.
        labels: all labels, in the order of the outputs; none for a number.

    Raises:
        UserError: the file is elsewhere, is missing or damaged, or was predicted for other labels.
    """
    if name is None:
        return None
    path = added_path("prepare.teacher", name, folder)
    try:
        teacher = read_predictions(path)
    except FileNotFoundError:
        raise UserError(f"prepare.teacher={name}: {path} does not exist: copy reports/predictions.npz there") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"prepare.teacher={name}: {path} is not what `select` writes to reports/predictions.npz"
            f" ({' '.join(str(error).split())[:100]}): copy it again"
        ) from None
    if teacher.labels != labels:
        raise UserError(
            f"prepare.teacher={name}: it predicts {described(teacher.labels)}, and this competition has"
            f" {described(labels)}: copy the predictions of a bundle of this competition"
        )
    if not isinstance(teacher.outputs, np.ndarray):
        raise UserError(
            f"prepare.teacher={name}: of {len(labels)} labels it has the likeliest alone, which no network can be"
            " trained on: set prepare.teacher=null"
        )
    if not np.isfinite(teacher.outputs).all():
        raise UserError(f"prepare.teacher={name}: a prediction is not finite: copy reports/predictions.npz again")
    return Teacher(teacher, path)


def described(labels: list[str]) -> str:
    """Return labels for an error, the first ones of many."""
    if not labels:
        return "numbers"
    return f"{len(labels)} labels ({', '.join(map(shown, labels[:6]))}{', …' if len(labels) > 6 else ''})"
