"""Analyze errors: confusion of label sets, loss of each image, likely label errors."""

from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.inference.decision import TINY

OTHERS = "other sets"


def set_names(rows: np.ndarray, labels: list[str]) -> np.ndarray:
    """Return each row's labels as text, "rust + scab" or "no label", (n,) str.

    Args:
        rows: (n, labels) bool, or (n,) class numbers.
        labels: names.
    """
    if rows.ndim == 1:
        return np.array(labels, object)[rows]
    kinds, kind = np.unique(rows, axis=0, return_inverse=True)
    names = [" + ".join(np.array(labels)[each]) or "no label" for each in kinds]
    return np.array(names, object)[kind.ravel()]


def set_matrix(true: np.ndarray, predicted: np.ndarray, shown: int) -> pd.DataFrame:
    """Return the confusion matrix of label sets: true sets as rows, predicted sets as columns, most frequent first.

    Sets that are never true have no row; those never predicted have no column.

    Args:
        true, predicted: (n,) names of sets.
        shown: number of sets with a row and column of their own; the others share one, OTHERS.
    """
    counts = pd.concat([pd.Series(true), pd.Series(predicted)]).value_counts()
    # Equal counts are ordered by name, so that equal predictions give equal figures.
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    names = order[:shown] + ([OTHERS] if len(order) > shown else [])
    sides = [pd.Series(side).where(pd.Series(side).isin(order[:shown]), OTHERS) for side in (true, predicted)]
    table = pd.crosstab(*sides, rownames=["true"], colnames=["predicted"])
    return table.loc[[name for name in names if name in table.index], [name for name in names if name in table]]


def frequent_mistakes(true: np.ndarray, predicted: np.ndarray, count: int) -> pd.DataFrame:
    """Return the most frequent pairs of a true and a different predicted set; columns: true, predicted, images."""
    pairs = pd.DataFrame({"true": true, "predicted": predicted})
    pairs = pairs[pairs["true"] != pairs["predicted"]].groupby(["true", "predicted"]).size().reset_index(name="images")
    return pairs.sort_values(["images", "true", "predicted"], ascending=[False, True, True]).head(count)


def losses(outputs: Any, true: np.ndarray) -> np.ndarray:
    """Return how far each row's prediction is from the truth, (n,): its cross-entropy, or for a number the distance.

    Args:
        outputs: (n, labels) probabilities or (n, 1) numbers.
        true: as in competition/metrics.py.
    """
    if true.dtype.kind == "f":
        return np.abs(outputs[:, 0] - true)
    if true.ndim == 1:
        of_true = np.asarray(outputs[np.arange(len(true)), true]).ravel()
        return -np.log(of_true.astype(float).clip(TINY))
    p = outputs.astype(float).clip(TINY, 1 - TINY)
    return -np.where(true, np.log(p), np.log1p(-p)).mean(axis=1)


def label_errors(probabilities: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find labels that out-of-fold predictions contradict with confidence, by confident learning.

    Northcutt, Jiang and Chuang (2021), one label against the rest as in Thyagarajan et al. (2022). A label of a row is
    suspect if the prediction is the opposite of the given label, and the probability of the opposite is at least one
    half and at least its mean over the rows where the opposite is given. Rows are ranked by self-confidence, the
    probability of the given label.

    Args:
        probabilities: (n, labels), by models that were not trained on the row.
        true: (n, labels) bool, as given.
        predicted: (n, labels) bool.

    Returns:
        Indices of the suspect rows, least self-confidence first, and for each the index of its suspect label.
    """
    opposite = np.where(true, 1 - probabilities, probabilities)
    self_confidence = 1 - opposite
    suspect = np.zeros(true.shape, bool)
    for given in (False, True):
        others = true != given  # rows where the opposite is given
        mean = (self_confidence * others).sum(axis=0) / np.maximum(others.sum(axis=0), 1)
        # A label that no row has, or all have, cannot be compared with others.
        suspect |= (true == given) & (opposite >= np.maximum(mean, 0.5)) & (others.sum(axis=0) > 0)
    suspect &= predicted != true
    confidence = np.where(suspect, self_confidence, np.inf)
    rows = np.flatnonzero(suspect.any(axis=1))
    rows = rows[np.argsort(confidence[rows].min(axis=1), kind="stable")]
    return rows, confidence[rows].argmin(axis=1)


def class_errors(outputs: Any, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Find rows whose class out-of-fold predictions contradict with confidence, by confident learning.

    Northcutt, Jiang and Chuang (2021): a row is suspect if another class is predicted, with at least the mean
    probability that rows of that class get for it. Rows are ranked by the probability of the given class.

    Args:
        outputs: (n, labels) probabilities, by models that were not trained on the row.
        true, predicted: (n,) class numbers.

    Returns:
        Indices of the suspect rows, the least probable class first.
    """
    rows = np.arange(len(true))
    of_true, of_predicted = (np.asarray(outputs[rows, each]).ravel() for each in (true, predicted))
    counts = np.bincount(true, minlength=outputs.shape[1])
    mean = np.bincount(true, of_true, minlength=outputs.shape[1]) / np.maximum(counts, 1)
    suspect = np.flatnonzero((predicted != true) & (counts[predicted] > 0) & (of_predicted >= mean[predicted]))
    return suspect[np.argsort(of_true[suspect], kind="stable")]
