"""What selection is worth on images that it has not seen.

Out-of-fold predictions are new to the networks, but not to thresholds and weights tuned on them. So the whole
selection is done over on four fifths of the rows, and scored on the other fifth, five times; and all of it again with
other fifths where rows are few, since one division of them is luck.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from plant_pathology.ensemble import Budget, blend, select
from plant_pathology.metrics import best_threshold, decide, row_f1
from plant_pathology.thresholds import shrunk, tuned

PARTS = 5
ROWS, REPEATS = 10_000, 10  # all of it again until so many rows were scored, at most so often
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from the common threshold to each label's own


@dataclass(frozen=True)
class CrossFit:
    """F1 of each row, by what was tuned on other rows; the mean where that was done several times.

    Args:
        single, ensemble: (shares, n) of the best single candidate and of the ensemble, by share of SHARES.
    """

    single: np.ndarray
    ensemble: np.ndarray

    @staticmethod
    def best_share(scores: np.ndarray) -> int:
        """Position in SHARES; of equals the one nearest to the common threshold."""
        return int(scores.mean(axis=1).round(12).argmax())


def crossfit(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool, seed: int) -> CrossFit:
    """Select on some rows, score on others.

    Args:
        stack: (candidates, n, labels) probabilities.
        true: (n, labels) bool.
    """
    single, ensemble = np.zeros((2, len(SHARES), len(true)))
    rng, repeats = np.random.default_rng(seed), min(max(1, ROWS // len(true)), REPEATS)
    parts = np.stack([rng.permutation(len(true)) % PARTS for _ in range(repeats)])
    for part, number in product(parts, range(min(PARTS, len(true)))):
        rest, held = part != number, part == number
        alone = [best_threshold(each, true[rest], multilabel)[1] for each in stack[:, rest]]
        counts = select(stack[:, rest], true[rest], budget, multilabel)
        for scores, weights in ((single, np.eye(len(stack))[np.argmax(alone)]), (ensemble, counts)):
            scores[:, held] += held_out(blend(stack, weights), true, rest, multilabel) / repeats
    return CrossFit(single, ensemble)


def held_out(probabilities: np.ndarray, true: np.ndarray, rest: np.ndarray, multilabel: bool) -> np.ndarray:
    """(shares, rows not in `rest`): F1 with the thresholds tuned on `rest`."""
    common, own = both_thresholds(probabilities[rest], true[rest], multilabel)
    return np.stack(
        [row_f1(decide(probabilities[~rest], shrunk(common, own, share), multilabel), true[~rest]) for share in SHARES]
    )


def both_thresholds(probabilities: np.ndarray, true: np.ndarray, multilabel: bool) -> tuple[float, np.ndarray]:
    """The common threshold, and each label's own; the same where one label a row makes them moot."""
    common, _ = best_threshold(probabilities, true, multilabel)
    if not multilabel:
        return common, np.full(true.shape[1], common)
    return common, tuned(probabilities, true, common)
