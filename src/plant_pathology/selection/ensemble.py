"""Choose which candidates to average: the best one, a few with equal weights, or weights by greedy selection.

Greedy selection is Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models" (ICML
2004), with replacement and a sorted start, for sample-F1 at the best common threshold. With few rows it fits noise, and
the plain mean of a few does better. So all rules are tried, and cross-fitting decides between them.

Probabilities are averaged, as they are over views and folds: their mean is still a probability. A mean of log-odds
would let one confident and wrong member outvote the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plant_pathology.competition.metrics import best_threshold

SINGLE = "best_1"  # the rule that takes the best candidate alone
BEST = (1, 2, 3, 5)  # sizes of the ensembles with equal weights
MAX_PICKS = 20  # of greedy selection: the finest weight is a twentieth
PATIENCE = 5  # picks without improvement before greedy selection ends
MIN_GAIN = 0.001  # sample-F1 that each further candidate must add, since it costs the kernel time
MAX_CANDIDATES = 20  # greedy selection tries only the best ones; others would hardly be picked, and cost time


@dataclass(frozen=True)
class Budget:
    """The resources of each candidate and the limits of the kernel.

    Args:
        costs: (candidates, resources).
        limits: (resources,).
    """

    costs: np.ndarray
    limits: np.ndarray

    def fits(self, counts: np.ndarray) -> bool:
        """Check whether all candidates with a count above 0 fit together; counts: (candidates,)."""
        return bool((self.costs[counts > 0].sum(axis=0) <= self.limits).all())


def build_ensembles(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool) -> dict[str, np.ndarray]:
    """Build one ensemble by each rule: best_1, best_2, best_3, best_5 and greedy.

    Args:
        stack: (candidates, n, labels) probabilities of the same rows; each candidate fits the budget alone.
        true: (n, labels) bool.

    Returns:
        By rule, (candidates,) int: how often each candidate is picked. Weights are these counts divided by their sum.
    """

    def score(counts: np.ndarray) -> float:
        return best_threshold(blend(stack, counts), true, multilabel)[1]

    singles = np.eye(len(stack), dtype=int)
    singles = singles[np.argsort([-score(each) for each in singles], kind="stable")[:MAX_CANDIDATES]]
    ensembles = {f"best_{size}": best_of(singles, size, budget) for size in BEST}
    return ensembles | {"greedy": select_greedily(score, singles, list(ensembles.values()), budget)}


def best_of(singles: np.ndarray, size: int, budget: Budget) -> np.ndarray:
    """Pick the best candidates once each, up to `size`, and skip those that exceed the budget.

    Args:
        singles: (candidates tried, candidates) one-hot counts, best first.
    """
    counts = singles[0]
    for single in singles[1:]:
        if counts.sum() < size and budget.fits(counts + single):
            counts = counts + single
    return counts


def select_greedily(
    score: Callable[[np.ndarray], float], singles: np.ndarray, starts: list[np.ndarray], budget: Budget
) -> np.ndarray:
    """Start from the best of `starts`, and repeatedly pick the candidate that raises the score most."""

    def penalized(counts: np.ndarray) -> float:
        return score(counts) - MIN_GAIN * (counts > 0).sum()

    counts = chosen = max(starts, key=penalized)
    best, since = penalized(chosen), 0
    while counts.sum() < MAX_PICKS and since < PATIENCE:
        trials = [counts + single for single in singles if budget.fits(counts + single)]
        scores = list(map(penalized, trials))
        counts = trials[int(np.argmax(scores))]
        since += 1
        if max(scores) > best + 1e-12:
            chosen, best, since = counts, max(scores), 0
    return chosen


def blend(stack: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the candidates' probabilities, (n, labels)."""
    picked = np.flatnonzero(counts)
    return np.tensordot((counts[picked] / counts.sum()).astype(stack.dtype), stack[picked], axes=1)
