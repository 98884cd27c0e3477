"""Tune one threshold per label for sample-F1.

Each label's threshold is set to its best value while the others stay fixed, label by label, until no change improves
the score: the cyclic optimization of Fan and Lin, "A Study on Threshold Selection for Multi-label Classification"
(2007). Here the score is the mean F1 of rows, and all distinct values of a threshold are tried.
"""

import numpy as np

from plant_pathology.competition.metrics import row_f1, sample_f1
from plant_pathology.inference.decision import decide

MAX_ROUNDS = 20


def tune_thresholds(probabilities: np.ndarray, true: np.ndarray, common: float) -> np.ndarray:
    """Return thresholds that no change of a single one improves.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.
        common: the threshold of all labels at the start.

    Returns:
        (labels,) float64.
    """
    probabilities = probabilities.astype(np.float64)
    orders = np.argsort(-probabilities, axis=0, kind="stable")
    thresholds = np.full(probabilities.shape[1], common)
    best = sample_f1(decide(probabilities, thresholds), true)
    for _ in range(MAX_ROUNDS):
        before = best
        for label, order in enumerate(orders.T):
            trial = thresholds.copy()
            trial[label] = best_label_threshold(probabilities, true, thresholds, label, order)
            score = sample_f1(decide(probabilities, trial), true)
            if score > best + 1e-12:
                thresholds, best = trial, score
        if best == before:
            break
    return thresholds


def best_label_threshold(
    probabilities: np.ndarray, true: np.ndarray, thresholds: np.ndarray, label: int, order: np.ndarray
) -> float:
    """Return the best threshold of one label with the others fixed: midway between two of its probabilities.

    Args:
        order: (n,) rows by falling probability of the label.
    """
    never = thresholds.copy()
    never[label] = np.inf
    with_label = probabilities >= never
    with_label[:, label] = True
    f1_with, f1_without = row_f1(with_label, true), row_f1(decide(probabilities, never), true)
    # gains[k]: of giving the label to the k rows where it is most probable.
    gains = np.concatenate([[0.0], (f1_with - f1_without)[order].cumsum()])
    values = np.concatenate([[1.0], probabilities[order, label], [0.0]])
    possible = values[:-1] > values[1:]  # no threshold separates equal probabilities
    position = np.flatnonzero(possible)[gains[possible].round(9).argmax()]
    return float((values[position] + values[position + 1]) / 2)
