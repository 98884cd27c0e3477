"""Compute the competition's metric, mean F1 per image (sample-F1), and the common threshold that maximizes it."""

import numpy as np
import pandas as pd

from plant_pathology.inference.decision import decide

# Thresholds to try.
GRID = np.linspace(0.05, 0.95, 91)


def sample_f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return the mean of the rows' F1: scikit-learn's f1_score(average="samples", zero_division=0).

    With exactly one predicted and one true label per row it equals the accuracy.

    Args:
        predicted: (n, labels), 0 or 1.
        true: (n, labels), 0 or 1.
    """
    return float(np.mean(row_f1(predicted, true)))


def row_f1(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the F1 of each row, (n,): 2 |predicted and true| / (|predicted| + |true|); 0 where both are empty."""
    predicted, true = np.asarray(predicted, bool), np.asarray(true, bool)
    sizes = predicted.sum(axis=1) + true.sum(axis=1)
    return 2 * (predicted & true).sum(axis=1) / np.maximum(sizes, 1)


def best_threshold(probabilities: np.ndarray, true: np.ndarray, multilabel: bool = True) -> tuple[float, float]:
    """Return the common threshold with the best sample-F1, and that F1; among equal thresholds, the middle one.

    Args:
        probabilities: (n, labels).
        true: (n, labels), 0 or 1.
        multilabel: False returns 0.5 and the F1 of the likeliest labels.
    """
    if not multilabel:
        return 0.5, sample_f1(decide(probabilities, 0.5, multilabel=False), true)
    scores = f1_by_threshold(probabilities, np.asarray(true, bool))
    # Rounded, so that sums in another order still tie.
    best = np.flatnonzero(scores.round(12) == scores.round(12).max())
    threshold = float(GRID[best[len(best) // 2]])
    return threshold, sample_f1(decide(probabilities, threshold), true)


def f1_by_threshold(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the sample-F1 at each threshold of GRID, (len(GRID),), in one pass over sorted probabilities.

    A row's k likeliest labels have F1 2 hits(k) / (k + |true|). The likeliest label is chosen at every threshold. Each
    further label changes the row's F1 by a difference, which counts at all thresholds up to the label's probability.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_probabilities, hits = (np.take_along_axis(each, order, axis=1) for each in (probabilities, true))
    sizes = np.arange(1, true.shape[1] + 1) + true.sum(axis=1, keepdims=True)
    f1 = 2 * hits.cumsum(axis=1) / sizes
    passed = np.searchsorted(GRID, sorted_probabilities[:, 1:].ravel(), side="right")
    differences = np.bincount(passed, np.diff(f1, axis=1).ravel(), len(GRID) + 1)
    return (f1[:, 0].sum() + differences[::-1].cumsum()[::-1][1:]) / len(true)


def label_counts(labels: list[str], true: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Count each label's hits and errors.

    Args:
        labels: names.
        true: (n, labels) bool.
        predicted: (n, labels) bool.

    Returns:
        One row per label: label; numbers of images that have it (images), get it (predicted), both (hits), only have it
        (missed), only get it (added); precision, recall, f1.
    """
    images, chosen, hits = (rows.sum(axis=0) for rows in (true, predicted, true & predicted))
    return pd.DataFrame(
        {
            "label": labels,
            "images": images,
            "predicted": chosen,
            "hits": hits,
            "missed": images - hits,
            "added": chosen - hits,
            "precision": hits / np.maximum(chosen, 1),
            "recall": hits / np.maximum(images, 1),
            "f1": 2 * hits / np.maximum(images + chosen, 1),
        }
    )
