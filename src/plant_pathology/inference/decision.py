"""From probabilities to labels as the kernel does it: by thresholds, or by the F1 that is to be expected."""

from dataclasses import dataclass

import numpy as np

from plant_pathology.inference.expected_f1 import best_sets

LIKELIEST, THRESHOLDS, EXPECTED_F1 = "likeliest", "thresholds", "expected_f1"
TINY = 1e-7  # a float32 sigmoid may say 0 or 1


@dataclass(frozen=True)
class Decision:
    """One of three ways.

    Args:
        by: `likeliest` label alone; `thresholds` that labels reach, or else the likeliest alone; `expected_f1`, the set
            for which that is highest, by calibrated probabilities.
        values: of the likeliest (0,); (labels,) thresholds; or (1 + labels,) slope and shifts of log-odds.
    """

    by: str
    values: np.ndarray

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, labels) probabilities to (n, labels) bool, no row empty."""
        if self.by == EXPECTED_F1:
            slope, *shifts = self.values
            return best_sets(1 / (1 + np.exp(-(slope * log_odds(probabilities) + shifts))))
        return decide(probabilities, self.values, multilabel=self.by == THRESHOLDS)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """float64 of the same shape, finite."""
    p = probabilities.astype(np.float64).clip(TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p)


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
