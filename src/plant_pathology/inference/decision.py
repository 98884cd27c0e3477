"""Turn outputs into what is submitted: labels, a ranking, calibrated probabilities or numbers.

Selection tunes a `Decision`; the kernel applies the same one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from plant_pathology.inference.expected_f1 import best_sets

LIKELIEST, RANKING, CUTS = "likeliest", "ranking", "cuts"
THRESHOLDS, EXPECTED_F1 = "thresholds", "expected_f1"
SIGMOID, SOFTMAX, NUMBER = "sigmoid", "softmax", "number"
EXCLUSIVE = ("one", "ordinal")  # kinds of target of which an image has exactly one label
TINY = 1e-7  # a float32 sigmoid may round to 0 or 1, whose log-odds are infinite


@dataclass(frozen=True)
class Decision:
    """Decide by one of these rules.

    Args:
        by: likeliest: the label with the highest product of probability and weight. ranking: the k likeliest labels.
            cuts: the expected class number, rounded at these places. thresholds: all labels at or above their
            threshold. expected_f1: the set with the highest expected F1 after calibrating the probabilities. sigmoid,
            softmax: the calibrated probabilities, of independent labels or of labels that exclude each other. number:
            the number, within a range.
        values: for likeliest the logarithm of each label's weight, (labels,), or none, (0,), for equal weights; for
            ranking k, (1,); for cuts (labels - 1,); for thresholds (labels,); for expected_f1, sigmoid and softmax the
            calibration of log-odds, (1 + labels,): one slope, then one bias per label; for number the lowest and the
            highest, (2,).
        empty: for thresholds whether an image may get no label; else it gets at least the likeliest one.
    """

    by: str
    values: np.ndarray
    empty: bool = False

    def decide(self, outputs: Any) -> np.ndarray:
        """Return class numbers (n,), rankings (n, k), sets (n, labels) bool, probabilities (n, labels) or numbers (n,).

        Args:
            outputs: (n, labels) probabilities, or (n, 1) numbers; likeliest and ranking also take SciPy's csr_array.
        """
        if self.by == LIKELIEST:
            weighted = outputs * np.exp(self.values)[None] if len(self.values) else outputs
            return np.asarray(weighted.argmax(axis=1)).ravel()
        if self.by == RANKING:
            return top_classes(outputs, int(self.values[0]))
        if self.by == CUTS:
            expected = outputs.astype(np.float64) @ np.arange(outputs.shape[1])
            return np.searchsorted(self.values, expected, side="right")
        if self.by == NUMBER:
            return outputs[:, 0].astype(np.float64).clip(*self.values)
        if self.by == THRESHOLDS:
            return above_thresholds(outputs, self.values, self.empty)
        if self.by == SOFTMAX:
            return softmax(self.values[0] * np.log(outputs.astype(np.float64).clip(TINY)) + self.values[1:])
        slope, *biases = self.values
        probabilities = 1 / (1 + np.exp(-(slope * log_odds(outputs) + biases)))
        return best_sets(probabilities) if self.by == EXPECTED_F1 else probabilities


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities that sum to 1 in each row."""
    likelihood = np.exp(logits - logits.max(axis=1, keepdims=True))
    return likelihood / likelihood.sum(axis=1, keepdims=True)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)), finite float64 of the same shape."""
    p = probabilities.astype(np.float64).clip(TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p)


def above_thresholds(probabilities: np.ndarray, thresholds: np.ndarray | float, empty: bool = False) -> np.ndarray:
    """Choose all labels at or above their threshold, and the likeliest one in a row that may not be empty.

    Args:
        probabilities: (n, labels).
        thresholds: one for all labels, or (labels,).
        empty: whether a row may be: it scores 0 by sample-F1 whatever the truth is, so that choosing a label can only
            help, and Kaggle takes no empty cell; but where each label has a cell, an image may have none.

    Returns:
        (n, labels) bool.
    """
    chosen = probabilities >= np.asarray(thresholds, np.float64)
    if empty:
        return chosen
    rows = np.flatnonzero(~chosen.any(axis=1))
    chosen[rows, probabilities[rows].argmax(axis=1)] = True
    return chosen


def top_classes(outputs: Any, k: int) -> np.ndarray:
    """Return the k likeliest classes of each row, (n, k) int, the likeliest first."""
    if isinstance(outputs, np.ndarray):
        return np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    # A sparse row holds its likeliest classes alone: pad the rows to equal lengths.
    lengths = np.diff(outputs.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - outputs.indptr[row]
    values = np.full((len(lengths), max(k, lengths.max(initial=0))), -np.inf)
    classes = np.zeros(values.shape, int)
    values[row, place], classes[row, place] = outputs.data, outputs.indices
    return np.take_along_axis(classes, np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1)
