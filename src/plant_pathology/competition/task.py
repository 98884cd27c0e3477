"""Say what is predicted and how it is scored, and score outputs by a plain decision: one that tunes next to nothing.

Training scores each epoch so, and selection compares candidates and ensembles so, before it tunes decisions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from plant_pathology.competition.labels import positive_label
from plant_pathology.competition.metrics import LABELS, PROBABILITIES, RANKING, Metric, row_f1
from plant_pathology.competition.spec import Competition
from plant_pathology.inference import decision as rules
from plant_pathology.inference.decision import Decision, above_thresholds

# Thresholds to try, and those for metrics that need one pass over all rows for each.
GRID = np.linspace(0.05, 0.95, 91)
COARSE = GRID[::5]
MANY, KEPT = 1000, 32  # of more classes than MANY, only the KEPT likeliest of each image are stored


@dataclass(frozen=True)
class Task:
    """A kind of target with the metric that scores it.

    Args:
        kind: one, several, ordinal or number.
        metric: what `metric_for` returns.
        outputs: of the network: the number of labels, or 1 for a number.
        empty: whether an image may be answered with none of several labels.
        low, high: range of the numbers that may be submitted.
    """

    kind: str
    metric: Metric
    outputs: int
    empty: bool = False
    low: float = -np.inf
    high: float = np.inf

    @property
    def exclusive(self) -> bool:
        """Return whether an image has exactly one of the labels, so that their probabilities sum to 1."""
        return self.kind in rules.EXCLUSIVE

    @property
    def sparse(self) -> bool:
        """Return whether only the likeliest classes of an image are stored, since there are too many."""
        return self.exclusive and self.outputs > MANY and self.metric.scores in (LABELS, RANKING)

    @property
    def rule(self) -> str:
        """Return the rule by which the plain decision decides."""
        if self.kind == "number":
            return rules.NUMBER
        if self.metric.scores == RANKING:
            return rules.RANKING
        if self.metric.scores == PROBABILITIES:
            return rules.SOFTMAX if self.exclusive else rules.SIGMOID
        if self.kind == "several":
            return rules.THRESHOLDS
        return rules.CUTS if self.metric.name == "quadratic_weighted_kappa" else rules.LIKELIEST

    def plain_decision(self, outputs: Any, true: np.ndarray) -> Decision:
        """Return the plain decision: the best common threshold, the middles between class numbers, or nothing tuned.

        Args:
            outputs: (n, outputs), probabilities or numbers.
            true: as in metrics.py.
        """
        if self.rule == rules.THRESHOLDS:
            common = best_threshold(outputs, true, self.metric, self.empty)
            return Decision(rules.THRESHOLDS, np.full(self.outputs, common), self.empty)
        plain: dict[str, Any] = {
            rules.NUMBER: [self.low, self.high],
            rules.RANKING: [self.metric.k],
            rules.CUTS: np.arange(self.outputs - 1) + 0.5,
            rules.LIKELIEST: [],
            rules.SIGMOID: identity_calibration(self.outputs),
            rules.SOFTMAX: identity_calibration(self.outputs),
        }
        return Decision(self.rule, np.asarray(plain[self.rule], float))

    def plain_score(self, outputs: Any, true: np.ndarray) -> float:
        """Return the metric of the plain decision, in the metric's own direction."""
        return self.metric.score(true, self.plain_decision(outputs, true).decide(outputs))


def task_of(competition: Competition, labels: list[str], scale: dict[str, float] | None) -> Task:
    """Return the task of a competition with the labels, or the range of numbers, of its prepared data.

    Args:
        labels: none for numbers.
        scale: mean, std, low and high of the training numbers; None for labels.
    """
    submit = competition.submit
    if scale is None:
        kind, metric = competition.target.kind, metric_for(competition, labels)
        answered = (kind, submit.as_, metric.scores)
        empty = answered == ("several", "columns", LABELS) and metric.rows is not row_f1
        return Task(kind, metric, len(labels), empty)
    low = scale["low"] if submit.low is None else submit.low
    high = scale["high"] if submit.high is None else submit.high
    return Task(competition.target.kind, competition.metric, 1, low=low, high=high)


def metric_for(competition: Competition, labels: list[str]) -> Metric:
    """Return the competition's metric; where one label's probability is submitted, that of this label alone.

    Of two labels that exclude each other it scores both, which gives the score of either.

    Args:
        labels: in the order of the outputs; none for numbers.

    Raises:
        UserError: as `positive_label` says.
    """
    metric, exclusive = competition.metric, competition.target.kind in rules.EXCLUSIVE
    if competition.submit.as_ != "probability" or (exclusive and len(labels) == 2):
        return metric
    return metric.of_label(labels.index(positive_label(competition, labels) or labels[-1]))


def identity_calibration(labels: int) -> np.ndarray:
    """Return the calibration that changes nothing, (1 + labels,): slope 1, biases 0."""
    return np.eye(1, 1 + labels)[0]


def best_threshold(probabilities: np.ndarray, true: np.ndarray, metric: Metric, empty: bool = False) -> float:
    """Return the common threshold with the best score; among equal thresholds, the middle one.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.
        metric: one that scores sets of labels.
        empty: whether a row may be.
    """
    if metric.rows is row_f1:
        grid, scores = GRID, f1_by_threshold(probabilities, true)
    else:
        grid = COARSE
        scores = np.array([metric.signed(true, above_thresholds(probabilities, each, empty)) for each in grid])
    # Rounded, so that sums in another order still tie.
    best = np.flatnonzero(scores.round(12) == scores.round(12).max())
    return float(grid[best[len(best) // 2]])


def f1_by_threshold(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the sample-F1 at each threshold of GRID, (len(GRID),), in one pass over sorted probabilities.

    A row's k likeliest labels have F1 2 hits(k) / (k + |true|). The likeliest label is chosen at every threshold. Each
    further label changes the row's F1 by a difference, which counts at all thresholds up to the label's probability.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_probabilities, hits = (np.take_along_axis(each, order, axis=1) for each in (probabilities, true))
    sizes = np.arange(1, true.shape[1] + 1) + true.sum(axis=1, keepdims=True)
    f1 = 2 * hits.cumsum(axis=1) / sizes
    passed = np.searchsorted(GRID, sorted_probabilities[:, 1:].ravel(), side="right")
    differences = np.bincount(passed, np.diff(f1, axis=1).ravel(), len(GRID) + 1)
    return (f1[:, 0].sum() + differences[::-1].cumsum()[::-1][1:]) / len(true)
