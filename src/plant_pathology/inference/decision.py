"""Turn probabilities into label sets: by thresholds, or by maximum expected F1.

Selection tunes a `Decision`; the kernel applies the same one.
"""

from dataclasses import dataclass

import numpy as np

from plant_pathology.inference.expected_f1 import best_sets

LIKELIEST, THRESHOLDS, EXPECTED_F1 = "likeliest", "thresholds", "expected_f1"
TINY = 1e-7  # a float32 sigmoid may round to 0 or 1, whose log-odds are infinite


@dataclass(frozen=True)
class Decision:
    """Choose labels by one of three rules.

    Args:
        by: "likeliest": the label with the highest probability alone. "thresholds": all labels at or above their
            threshold; the likeliest label where there is none. "expected_f1": the set with the highest expected F1
            after calibrating the probabilities.
        values: for "likeliest" nothing, (0,); for "thresholds" one per label, (labels,); for "expected_f1" the
            calibration of log-odds, (1 + labels,): one slope, then one bias per label.
    """

    by: str
    values: np.ndarray

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the chosen labels, (n, labels) bool with no empty row, of (n, labels) probabilities."""
        if self.by == EXPECTED_F1:
            slope, *biases = self.values
            return best_sets(1 / (1 + np.exp(-(slope * log_odds(probabilities) + biases))))
        return decide(probabilities, self.values, multilabel=self.by == THRESHOLDS)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)), finite float64 of the same shape."""
    p = probabilities.astype(np.float64).clip(TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p)


def decide(probabilities: np.ndarray, thresholds: np.ndarray | float, multilabel: bool = True) -> np.ndarray:
    """Choose all labels at or above their threshold; the likeliest label in a row where there is none.

    An empty row scores 0 whatever the truth is, so that choosing a label can only help.

    Args:
        probabilities: (n, labels).
        thresholds: one for all labels, or (labels,).
        multilabel: False chooses the likeliest label alone in every row.

    Returns:
        (n, labels) bool, no row empty.
    """
    likeliest = np.zeros(probabilities.shape, bool)
    likeliest[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    if not multilabel:
        return likeliest
    chosen = probabilities >= np.asarray(thresholds, np.float64)
    return np.where(chosen.any(axis=1, keepdims=True), chosen, likeliest)
