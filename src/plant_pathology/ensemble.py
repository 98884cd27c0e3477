"""Greedy ensemble selection: Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models"
(ICML 2004), with replacement and a sorted start, for sample-F1 at the best common threshold.

Probabilities are averaged, as they are over views and folds: that mean is still a probability, and the metric's
thresholds need nothing more. Log-odds would let one member that is sure and wrong outvote the others.
"""

from dataclasses import dataclass

import numpy as np

from plant_pathology.metrics import best_threshold

PICKS = 20  # weights are multiples of a twentieth at the finest
PATIENCE = 5  # picks that gain nothing before it ends
GAIN = 0.001  # of sample-F1 that each further candidate must bring, since it costs the kernel time
CANDIDATES = 20  # the best of them; the others would hardly be picked, and cost time


@dataclass(frozen=True)
class Budget:
    """What a kernel may carry and run.

    Args:
        costs: (candidates, resources) of each.
        limits: (resources,).
    """

    costs: np.ndarray
    limits: np.ndarray

    def fits(self, counts: np.ndarray) -> bool:
        """Whether the candidates that were picked, however often, fit together."""
        return bool((self.costs[counts > 0].sum(axis=0) <= self.limits).all())


def select(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool) -> np.ndarray:
    """How often each candidate is picked. Each candidate alone must fit the budget.

    Args:
        stack: (candidates, n, labels) probabilities of the same rows.
        true: (n, labels) bool.

    Returns:
        (candidates,) whole numbers, at least one of them above 0.
    """

    def score(counts: np.ndarray) -> float:
        return best_threshold(blend(stack, counts), true, multilabel)[1] - GAIN * (counts > 0).sum()

    singles = np.eye(len(stack), dtype=int)
    singles = singles[np.argsort([-score(each) for each in singles], kind="stable")[:CANDIDATES]]
    # The best one, the two best, the three best, and so on.
    starts = [start for start in singles.cumsum(axis=0) if budget.fits(start)]
    counts = max(starts, key=score)
    best = score(counts)
    chosen, since = counts, 0
    while counts.sum() < PICKS and since < PATIENCE:
        trials = [counts + single for single in singles if budget.fits(counts + single)]
        scores = list(map(score, trials))
        counts = trials[int(np.argmax(scores))]
        since += 1
        if max(scores) > best + 1e-12:
            chosen, best, since = counts, max(scores), 0
    return chosen


def blend(stack: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n, labels): the candidates' mean by weight."""
    picked = np.flatnonzero(counts)
    return np.tensordot((counts[picked] / counts.sum()).astype(stack.dtype), stack[picked], axes=1)
