"""Choose which candidates to average: the best one, a few with equal weights, or weights by greedy selection.

Greedy selection is Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models" (ICML
2004), with replacement and a sorted start, for the metric of the plain decision. With few rows it fits noise, and
the plain mean of a few does better. So all rules are tried, and cross-fitting decides between them.

Probabilities are averaged, as they are over views and folds: their mean is still a probability. A mean of log-odds
would let one confident and wrong member outvote the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plant_pathology.competition.task import Task

SINGLE = "best_1"  # the rule that takes the best candidate alone
BEST = (1, 2, 3, 5)  # sizes of the ensembles with equal weights
MAX_PICKS = 20  # of greedy selection: the finest weight is a twentieth
PATIENCE = 5  # picks without improvement before greedy selection ends
MIN_GAIN = 0.001  # of the score that each further candidate must add, as a share of its scale, since it costs time
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


def build_ensembles(stack: Sequence[Any], true: np.ndarray, budget: Budget, task: Task) -> dict[str, np.ndarray]:
    """Build one ensemble by each rule: best_1, best_2, best_3, best_5 and greedy.

    Args:
        stack: (n, outputs) of each candidate, for the same rows; each candidate fits the budget alone.
        true: as in metrics.py.

    Returns:
        By rule, (candidates,) int: how often each candidate is picked. Weights are these counts divided by their sum.
    """

    def score(counts: np.ndarray) -> float:
        return task.metric.sign * task.plain_score(blend(stack, counts), true)

    singles = np.eye(len(stack), dtype=int)
    scores = [score(each) for each in singles]
    gain = MIN_GAIN * scale_of(task, max(scores))
    singles = singles[np.argsort([-each for each in scores], kind="stable")[:MAX_CANDIDATES]]
    ensembles = {f"best_{size}": best_of(singles, size, budget) for size in BEST}
    return ensembles | {"greedy": select_greedily(score, singles, list(ensembles.values()), budget, gain)}


def scale_of(task: Task, best: float) -> float:
    """Return the size of a score that 1 stands for: 1 for metrics from 0 to 1, the score itself for errors."""
    return 1.0 if task.metric.sign > 0 else abs(best)


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
    score: Callable[[np.ndarray], float], singles: np.ndarray, starts: list[np.ndarray], budget: Budget, gain: float
) -> np.ndarray:
    """Start from the best of `starts`, and repeatedly pick the candidate that raises the score most.

    Args:
        score: of the candidates' counts; higher is better.
        gain: of the score that each further candidate must add.
    """

    def penalized(counts: np.ndarray) -> float:
        return score(counts) - gain * (counts > 0).sum()

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


def blend(stack: Sequence[Any], counts: np.ndarray) -> Any:
    """Return the weighted mean of the candidates' outputs, (n, outputs)."""
    picked = np.flatnonzero(counts).tolist()
    if isinstance(stack[0], np.ndarray):
        weights = (counts[picked] / counts.sum()).astype(stack[0].dtype)
        return np.tensordot(weights, np.stack([stack[each] for each in picked]), axes=1)
    return sum(stack[each] * (counts[each] / counts.sum()) for each in picked)
