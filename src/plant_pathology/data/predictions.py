"""Store what networks predict for images that they were not trained on, with what is true of these."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy.sparse import csr_array

from plant_pathology.core.files import atomic_file
from plant_pathology.data.index import pack_targets, unpack_targets


@dataclass(frozen=True)
class Predictions:
    """Outputs for images, with what is true of them.

    Args:
        images: (n,) names.
        labels: names, in the order of the outputs; none for numbers.
        true: (n,) class numbers or numbers, or (n, labels) bool.
        outputs: (n, labels) probabilities or (n, 1) numbers, float32; a csr_array where only the likeliest are stored.
        chosen: what selection decided, as `true`; None for a run's predictions.
    """

    images: np.ndarray
    labels: list[str]
    true: np.ndarray
    outputs: Any
    chosen: np.ndarray | None = None


def likeliest_alone(values: np.ndarray, classes: np.ndarray, labels: int) -> csr_array:
    """Return the outputs of rows of which only the likeliest classes are known.

    Args:
        values, classes: (n, kept): probabilities and class numbers.
        labels: number of all classes.
    """
    starts = np.arange(0, values.size + 1, values.shape[1])
    return csr_array((values.ravel(), classes.ravel(), starts), shape=(len(values), labels))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions as one .npz file: arrays images, labels, true, and outputs, or the parts of
    a sparse matrix."""
    outputs = predictions.outputs
    if isinstance(outputs, np.ndarray):
        stored = {"outputs": outputs}
    else:
        # A blend of several candidates has rows of different lengths.
        stored = {"values": outputs.data, "classes": outputs.indices, "starts": outputs.indptr}
    if predictions.chosen is not None:
        stored["chosen"] = pack_targets(predictions.chosen)
    with atomic_file(path) as work, work.open("wb") as file:
        np.savez(
            file,
            images=predictions.images,
            labels=np.array(predictions.labels, str),
            true=pack_targets(predictions.true),
            allow_pickle=False,
            **stored,
        )


def read_predictions(path: Path | IO[bytes]) -> Predictions:
    """Read what `write_predictions` wrote, from a path or from an open file."""
    with np.load(path, allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    labels = stored["labels"].tolist()
    outputs = stored.get("outputs")
    if outputs is None:
        rows = stored["values"], stored["classes"], stored["starts"]
        outputs = csr_array(rows, shape=(len(stored["images"]), len(labels)))
    true = unpack_targets(stored["true"], len(labels))
    chosen = unpack_targets(stored["chosen"], len(labels)) if "chosen" in stored else None
    return Predictions(stored["images"], labels, true, outputs, chosen)
