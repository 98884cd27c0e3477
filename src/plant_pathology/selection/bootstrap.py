"""Bootstrap over images: the confidence interval of a mean score, and of the gain of one predictor over another."""

from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
BATCH = 10  # resamples in memory at a time: larger batches are slower


class Gain(NamedTuple):
    """The mean difference of two scores with its confidence interval; noise where the interval contains 0."""

    gain: float
    low: float
    high: float
    noise: bool


def confidence_interval(scores: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval (Efron 1979) of the mean score.

    Args:
        scores: (n,), one per image; n at least 2.
    """
    interval = bootstrap(
        (scores,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired_gain(ours: np.ndarray, theirs: np.ndarray) -> Gain:
    """Return the gain of `ours` over `theirs`, with the interval of the paired differences.

    Args:
        ours, theirs: (n,), one score per image, of the same images in the same order.
    """
    low, high = confidence_interval(ours - theirs)
    return Gain(float((ours - theirs).mean()), low, high, low <= 0 <= high)
