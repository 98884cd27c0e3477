"""Which networks to average: the best one, the few best alike, or weights picked greedily.

The last is Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models" (ICML 2004), with
replacement and a sorted start, for sample-F1 at the best common threshold. It needs many rows: on few it fits their
noise, and the plain mean of a few does better. So all are offered, and rows that were not selected on decide.

Probabilities are averaged, as they are over views and folds: that mean is still a probability, and the metric's
thresholds need nothing more. Log-odds would let one member that is sure and wrong outvote the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plant_pathology.competition.metrics import best_threshold

FEW = (1, 2, 3, 5)  # best ones that are averaged alike
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


def picks(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool) -> dict[str, np.ndarray]:
    """How often each rule picks each candidate: best_1, best_2 and so on, greedy. Each candidate alone must fit.

    Args:
        stack: (candidates, n, labels) probabilities of the same rows.
        true: (n, labels) bool.

    Returns:
        By rule, (candidates,) whole numbers, at least one of them above 0.
    """

    def score(counts: np.ndarray) -> float:
        return best_threshold(blend(stack, counts), true, multilabel)[1]

    singles = np.eye(len(stack), dtype=int)
    singles = singles[np.argsort([-score(each) for each in singles], kind="stable")[:CANDIDATES]]
    few = {f"best_{size}": best_few(singles, size, budget) for size in FEW}
    return few | {"greedy": greedy(score, singles, list(few.values()), budget)}


def best_few(singles: np.ndarray, size: int, budget: Budget) -> np.ndarray:
    """The first ones that fit together."""
    counts = singles[0]
    for single in singles[1:]:
        if counts.sum() < size and budget.fits(counts + single):
            counts = counts + single
    return counts


def greedy(
    score: Callable[[np.ndarray], float], singles: np.ndarray, starts: list[np.ndarray], budget: Budget
) -> np.ndarray:
    """From the best of the starts, pick what gains most, again and again."""

    def worth(counts: np.ndarray) -> float:
        return score(counts) - GAIN * (counts > 0).sum()

    counts = chosen = max(starts, key=worth)
    best, since = worth(chosen), 0
    while counts.sum() < PICKS and since < PATIENCE:
        trials = [counts + single for single in singles if budget.fits(counts + single)]
        values = list(map(worth, trials))
        counts = trials[int(np.argmax(values))]
        since += 1
        if max(values) > best + 1e-12:
            chosen, best, since = counts, max(values), 0
    return chosen


def blend(stack: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n, labels): the candidates' mean by weight."""
    picked = np.flatnonzero(counts)
    return np.tensordot((counts[picked] / counts.sum()).astype(stack.dtype), stack[picked], axes=1)
