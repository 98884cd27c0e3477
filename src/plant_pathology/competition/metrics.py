"""The competition's metric, and the rule from probabilities to labels that it is computed on."""

import numpy as np

THRESHOLDS = np.linspace(0.05, 0.95, 91)


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


def decide(probabilities: np.ndarray, thresholds: np.ndarray | float, multilabel: bool = True) -> np.ndarray:
    """Probabilities to labels: those at or above their threshold, and the likeliest alone where none is.

    An empty row scores 0 whatever is true, so that filling it never loses.

    Args:
        probabilities: (n, labels).
        thresholds: one for all, or (labels,).
        multilabel: False takes the likeliest alone in every row.

    Returns:
        (n, labels) bool, no row empty.
    """
    likeliest = np.zeros(probabilities.shape, bool)
    likeliest[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    if not multilabel:
        return likeliest
    chosen = probabilities >= np.asarray(thresholds, np.float64)
    return np.where(chosen.any(axis=1, keepdims=True), chosen, likeliest)


def best_threshold(probabilities: np.ndarray, true: np.ndarray, multilabel: bool = True) -> tuple[float, float]:
    """The common threshold with the best sample-F1, the middle one of equals, and that F1."""
    if not multilabel:
        return 0.5, sample_f1(decide(probabilities, 0.5, multilabel=False), true)
    scores = common_scores(probabilities, np.asarray(true, bool))
    # Rounded, so that sums in another order are equals still.
    best = np.flatnonzero(scores.round(12) == scores.round(12).max())
    threshold = float(THRESHOLDS[best[len(best) // 2]])
    return threshold, sample_f1(decide(probabilities, threshold), true)


def common_scores(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Sample-F1 by each of THRESHOLDS, common to all labels; all of them from one pass.

    A row with its k likeliest labels has F1 2 hits(k) / (k + |true|). The likeliest label stands at any threshold, each
    further one adds its difference where the threshold is not above it.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_probabilities, hits = (np.take_along_axis(each, order, axis=1) for each in (probabilities, true))
    sizes = np.arange(1, true.shape[1] + 1) + true.sum(axis=1, keepdims=True)
    f1 = 2 * hits.cumsum(axis=1) / sizes
    passed = np.searchsorted(THRESHOLDS, sorted_probabilities[:, 1:].ravel(), side="right")
    differences = np.bincount(passed, np.diff(f1, axis=1).ravel(), len(THRESHOLDS) + 1)
    return (f1[:, 0].sum() + differences[::-1].cumsum()[::-1][1:]) / len(true)
