"""The competition's metric, and the rule from probabilities to labels that it is computed on."""

import numpy as np

THRESHOLDS = np.linspace(0.05, 0.95, 91)


def sample_f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """F1 of each row's label set, averaged over rows: scikit-learn's f1_score(average="samples", zero_division=0).

    A row's F1 is 2 |predicted and true| / (|predicted| + |true|), and 0 where both are empty. With one label a row on
    both sides it is the accuracy.

    Args:
        predicted, true: (n, labels) 0 or 1.
    """
    predicted, true = np.asarray(predicted, bool), np.asarray(true, bool)
    sizes = predicted.sum(axis=1) + true.sum(axis=1)
    return float(np.mean(2 * (predicted & true).sum(axis=1) / np.maximum(sizes, 1)))


def decide(probabilities: np.ndarray, thresholds: np.ndarray | float, multilabel: bool = True) -> np.ndarray:
    """Probabilities to labels: those at or above their threshold, and the likeliest alone where none is.

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
    chosen = probabilities >= thresholds
    return np.where(chosen.any(axis=1, keepdims=True), chosen, likeliest)


def best_threshold(probabilities: np.ndarray, true: np.ndarray, multilabel: bool = True) -> tuple[float, float]:
    """The common threshold with the best sample-F1, the middle one of equals, and that F1."""
    if not multilabel:
        return 0.5, sample_f1(decide(probabilities, 0.5, multilabel=False), true)
    scores = np.array([sample_f1(decide(probabilities, threshold), true) for threshold in THRESHOLDS])
    best = np.flatnonzero(scores == scores.max())
    middle = best[len(best) // 2]
    return float(THRESHOLDS[middle]), float(scores[middle])
