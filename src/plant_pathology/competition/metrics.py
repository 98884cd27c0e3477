"""The competition's metric, and the rule from probabilities to labels that it is computed on."""

import numpy as np
import pandas as pd

from plant_pathology.inference.decision import decide

GRID = np.linspace(0.05, 0.95, 91)


def sample_f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """F1 of each row's label set, averaged over rows: scikit-learn's f1_score(average="samples", zero_division=0).

    With one label a row on both sides it is the accuracy.

    Args:
        predicted, true: (n, labels) 0 or 1.
    """
    return float(np.mean(row_f1(predicted, true)))


def row_f1(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(n,): 2 |predicted and true| / (|predicted| + |true|) of each row, and 0 where both are empty."""
    predicted, true = np.asarray(predicted, bool), np.asarray(true, bool)
    sizes = predicted.sum(axis=1) + true.sum(axis=1)
    return 2 * (predicted & true).sum(axis=1) / np.maximum(sizes, 1)


def best_threshold(probabilities: np.ndarray, true: np.ndarray, multilabel: bool = True) -> tuple[float, float]:
    """The common threshold with the best sample-F1, the middle one of equals, and that F1."""
    if not multilabel:
        return 0.5, sample_f1(decide(probabilities, 0.5, multilabel=False), true)
    scores = f1_by_threshold(probabilities, np.asarray(true, bool))
    # Rounded, so that sums in another order are equals still.
    best = np.flatnonzero(scores.round(12) == scores.round(12).max())
    threshold = float(GRID[best[len(best) // 2]])
    return threshold, sample_f1(decide(probabilities, threshold), true)


def f1_by_threshold(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Sample-F1 by each of GRID, common to all labels; all of them from one pass.

    A row with its k likeliest labels has F1 2 hits(k) / (k + |true|). The likeliest label stands at any threshold, each
    further one adds its difference where the threshold is not above it.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_probabilities, hits = (np.take_along_axis(each, order, axis=1) for each in (probabilities, true))
    sizes = np.arange(1, true.shape[1] + 1) + true.sum(axis=1, keepdims=True)
    f1 = 2 * hits.cumsum(axis=1) / sizes
    passed = np.searchsorted(GRID, sorted_probabilities[:, 1:].ravel(), side="right")
    differences = np.bincount(passed, np.diff(f1, axis=1).ravel(), len(GRID) + 1)
    return (f1[:, 0].sum() + differences[::-1].cumsum()[::-1][1:]) / len(true)


def label_counts(labels: list[str], true: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """A row a label: on how many images it stands, is predicted, both (hits), missed and added; precision, recall, F1.

    Args:
        true, predicted: (n, labels) bool.
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
