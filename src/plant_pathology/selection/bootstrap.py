"""How far a score would move with other images: percentile intervals by resampling rows (Efron 1979)."""

import numpy as np

RESAMPLES, COVERAGE, SEED = 1000, 0.95, 0


def interval(scores: np.ndarray) -> tuple[float, float]:
    """Of the mean of a score a row; for two predictors on the same rows, give their difference a row.

    Args:
        scores: (n,).
    """
    rng, n = np.random.default_rng(SEED), len(scores)
    means = [scores[rng.integers(0, n, n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)
