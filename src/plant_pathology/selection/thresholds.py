"""A threshold a label, for sample-F1, and the guard against fitting too many of them to too few images.

Each label's threshold is set to the best there is while the others stand still, label by label, until nothing gains:
the cyclic optimization of Fan and Lin, "A Study on Threshold Selection for Multi-label Classification" (2007), here on
the F1 of rows, and exact over all places where a threshold can lie. It begins at the common threshold.
"""

import numpy as np

from plant_pathology.competition.metrics import row_f1, sample_f1
from plant_pathology.inference.decision import decide

ROUNDS = 20


def tuned(probabilities: np.ndarray, true: np.ndarray, common: float) -> np.ndarray:
    """Thresholds that no change of a single one improves.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.
        common: threshold of all labels, with which it begins.

    Returns:
        (labels,) float64.
    """
    probabilities = probabilities.astype(np.float64)
    orders = np.argsort(-probabilities, axis=0, kind="stable")
    thresholds = np.full(probabilities.shape[1], common)
    best = sample_f1(decide(probabilities, thresholds), true)
    for _ in range(ROUNDS):
        before = best
        for label, order in enumerate(orders.T):
            trial = thresholds.copy()
            trial[label] = best_place(probabilities, true, thresholds, label, order)
            score = sample_f1(decide(probabilities, trial), true)
            if score > best + 1e-12:
                thresholds, best = trial, score
        if best == before:
            break
    return thresholds


def best_place(
    probabilities: np.ndarray, true: np.ndarray, thresholds: np.ndarray, label: int, order: np.ndarray
) -> float:
    """The best threshold of one label while the others stand: midway between two of its probabilities.

    Args:
        order: rows by falling probability of the label.
    """
    never = thresholds.copy()
    never[label] = np.inf
    with_it = probabilities >= never
    with_it[:, label] = True
    f1_with, f1_without = row_f1(with_it, true), row_f1(decide(probabilities, never), true)
    # After the k rows that are likeliest to have the label.
    gained = np.concatenate([[0.0], (f1_with - f1_without)[order].cumsum()])
    values = np.concatenate([[1.0], probabilities[order, label], [0.0]])
    possible = values[:-1] > values[1:]  # equal probabilities cannot be told apart
    place = np.flatnonzero(possible)[gained[possible].round(9).argmax()]
    return float((values[place] + values[place + 1]) / 2)
