"""Tune one threshold per label, or the cuts between classes that have an order.

For sample-F1, each label's threshold is set to its best value while the others stay fixed, label by label, until no
change improves the score: the cyclic optimization of Fan and Lin, "A Study on Threshold Selection for Multi-label
Classification" (2007). Here the score is the mean F1 of rows, and all distinct values of a threshold are tried.
"""

import numpy as np

from plant_pathology.competition.metrics import Metric, row_f1
from plant_pathology.inference.decision import above_thresholds

MAX_ROUNDS = 20
CUT_PLACES = 200  # quantiles of the expected class number at which a cut is tried


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
    best = mean_f1(probabilities, thresholds, true)
    for _ in range(MAX_ROUNDS):
        before = best
        for label, order in enumerate(orders.T):
            trial = thresholds.copy()
            trial[label] = best_label_threshold(probabilities, true, thresholds, label, order)
            score = mean_f1(probabilities, trial, true)
            if score > best + 1e-12:
                thresholds, best = trial, score
        if best == before:
            break
    return thresholds


def mean_f1(probabilities: np.ndarray, thresholds: np.ndarray, true: np.ndarray) -> float:
    """Return the sample-F1 of the labels above their thresholds."""
    return float(np.mean(row_f1(true, above_thresholds(probabilities, thresholds))))


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
    f1_with, f1_without = row_f1(true, with_label), row_f1(true, above_thresholds(probabilities, never))
    # gains[k]: of giving the label to the k rows where it is most probable.
    gains = np.concatenate([[0.0], (f1_with - f1_without)[order].cumsum()])
    values = np.concatenate([[1.0], probabilities[order, label], [0.0]])
    possible = values[:-1] > values[1:]  # no threshold separates equal probabilities
    position = np.flatnonzero(possible)[np.argmax(gains[possible].round(9))]
    return float((values[position] + values[position + 1]) / 2)


def tune_each_threshold(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the threshold of each label with its best F1, for macro F1, which is the mean of the labels' F1.

    A label's threshold does not touch another label's F1, but for rows in which none reaches its threshold and which
    may not be empty.

    Returns:
        (labels,) float64; 0.5 for a label that no row has.
    """
    thresholds = np.full(true.shape[1], 0.5)
    for label in np.flatnonzero(true.any(axis=0)):
        order = np.argsort(-probabilities[:, label], kind="stable")
        p, hits = probabilities[order, label].astype(np.float64), true[order, label].cumsum()
        f1 = 2 * hits / (np.arange(1, len(p) + 1) + hits[-1])
        possible = np.append(p[:-1] > p[1:], True)  # no threshold separates equal probabilities
        last = np.flatnonzero(possible)[f1[possible].round(9).argmax()]
        thresholds[label] = (p[last] + (p[last + 1] if last + 1 < len(p) else 0.0)) / 2
    return thresholds


def tune_cuts(probabilities: np.ndarray, true: np.ndarray, metric: Metric) -> np.ndarray:
    """Return the cuts between classes, on the expected class number, that no change of a single one improves.

    Args:
        probabilities: (n, labels) of classes that have an order.
        true: (n,) class numbers.
        metric: that is raised.

    Returns:
        (labels - 1,) float64, rising.
    """
    expected = probabilities.astype(np.float64) @ np.arange(probabilities.shape[1])
    cuts = np.arange(probabilities.shape[1] - 1) + 0.5
    places = np.unique(np.quantile(expected, np.linspace(0, 1, CUT_PLACES)))

    def score(trial: np.ndarray) -> float:
        return metric.signed(true, np.searchsorted(trial, expected, side="right"))

    best = score(cuts)
    for _ in range(MAX_ROUNDS):
        before = best
        for cut in range(len(cuts)):
            low = cuts[cut - 1] if cut else -np.inf
            high = cuts[cut + 1] if cut + 1 < len(cuts) else np.inf
            for place in places[(places > low) & (places < high)]:
                trial = cuts.copy()
                trial[cut] = place
                if (value := score(trial)) > best + 1e-12:
                    cuts, best = trial, value
        if best == before:
            break
    return cuts
