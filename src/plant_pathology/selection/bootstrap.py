"""Bootstrap over images: the confidence interval of a score, and of the gain of one predictor over another.

Where a score is the mean of its rows' values, these are resampled; else rows are resampled, and the metric is computed
again for each sample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap

from plant_pathology.competition.metrics import Metric

RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
BATCH = 10  # resamples in memory at a time: larger batches are slower
REPEATS = 200  # resamples where the metric is computed again for each


@dataclass(frozen=True)
class Score:
    """A score, with what its interval is computed from.

    Args:
        metric: the metric.
        value: in the metric's own direction.
        true: as in metrics.py.
        rows: (n,) value of each row, where the score is their mean; else None.
        decided: what was decided for each row.
    """

    metric: Metric
    value: float
    true: np.ndarray
    rows: np.ndarray | None
    decided: np.ndarray

    @property
    def signed(self) -> float:
        """Return the value times the metric's sign, so that higher is better."""
        return self.metric.sign * self.value


class Gain(NamedTuple):
    """By how much one score is better than another, with its confidence interval; noise where that contains 0."""

    gain: float
    low: float
    high: float
    noise: bool


def score_of(metric: Metric, true: np.ndarray, decided: np.ndarray) -> Score:
    """Score what was decided."""
    rows = metric.rows(true, decided) if metric.rows else None
    return Score(metric, float(rows.mean()) if rows is not None else metric.score(true, decided), true, rows, decided)


def confidence_interval(score: Score) -> tuple[float, float]:
    """Return the percentile interval (Efron 1979) of the score."""
    if score.rows is not None:
        return mean_interval(score.rows)
    return resampled_interval(
        lambda rows: score.metric.score(score.true[rows], score.decided[rows]), len(score.true), score.value
    )


def paired_gain(ours: Score, theirs: Score) -> Gain:
    """Return by how much `ours` is better than `theirs`, with the interval of the paired differences.

    Args:
        ours, theirs: scores of the same images in the same order.
    """
    metric, gain = ours.metric, ours.signed - theirs.signed
    if ours.rows is not None and theirs.rows is not None:
        differences = metric.sign * (ours.rows - theirs.rows)
        gain = float(differences.mean())
        low, high = mean_interval(differences)
    else:
        low, high = resampled_interval(
            lambda rows: (
                metric.signed(ours.true[rows], ours.decided[rows])
                - metric.signed(theirs.true[rows], theirs.decided[rows])
            ),
            len(ours.true),
            gain,
        )
    return Gain(gain, low, high, low <= 0 <= high)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the interval of the mean of (n,) values, n at least 2."""
    return interval(values, np.mean, RESAMPLES, batch=BATCH)


def resampled_interval(statistic: Callable[[np.ndarray], float], rows: int, value: float) -> tuple[float, float]:
    """Return the interval of a function of row numbers.

    Args:
        rows: their number.
        value: on all rows; stands for a sample on which the function cannot be computed, such as one without a class.
    """

    def finite(sample: np.ndarray) -> float:
        found = statistic(sample)
        return found if np.isfinite(found) else value

    return interval(np.arange(rows), finite, REPEATS, vectorized=False)


def interval(values: np.ndarray, statistic: Callable, resamples: int, **options: Any) -> tuple[float, float]:
    ends = bootstrap(
        (values,),
        statistic,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
        **options,
    ).confidence_interval
    return float(ends.low), float(ends.high)
