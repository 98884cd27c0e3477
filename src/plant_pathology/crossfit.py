"""What selection is worth on images that it has not seen.

Out-of-fold predictions are new to the networks, but not to thresholds and weights tuned on them. So the whole
selection is done over on four fifths of the rows, and scored on the other fifth, five times; and all of it again with
other fifths where rows are few, since one division of them is luck.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np

from plant_pathology.ensemble import Budget, blend, picks
from plant_pathology.metrics import best_threshold, decide, row_f1
from plant_pathology.thresholds import shrunk, tuned

PARTS = 5
ROWS, REPEATS = 10_000, 10  # all of it again until so many rows were scored, at most so often
# Of the way from the common threshold to each label's own; None: no thresholds, but the F1 to be expected.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, None)


@dataclass(frozen=True)
class Choice:
    """A rule of `ensemble.picks` with a share of SHARES, and what they reach together.

    Args:
        f1: (n,) of each row, by what was tuned on other rows; `common`: likewise, by the common threshold.
    """

    rule: str
    share: float | None
    f1: np.ndarray
    common: np.ndarray


def best_choice(scores: dict[str, np.ndarray]) -> Choice:
    """The best mean; of equals the rule named first, and the first of SHARES.

    Args:
        scores: by rule, what `crossfit` gave.
    """
    rule = max(scores, key=lambda each: scores[each].mean(axis=1).max().round(12))
    share = int(scores[rule].mean(axis=1).round(12).argmax())
    return Choice(rule, SHARES[share], scores[rule][share], scores[rule][0])


def crossfit(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool, seed: int) -> dict[str, np.ndarray]:
    """Select on some rows, score on others.

    Args:
        stack: (candidates, n, labels) probabilities.
        true: (n, labels) bool.

    Returns:
        By rule, (shares, n) F1 of each row; the mean where that was done several times.
    """
    rng, repeats = np.random.default_rng(seed), min(max(1, ROWS // len(true)), REPEATS)
    parts = np.stack([rng.permutation(len(true)) % PARTS for _ in range(repeats)])
    scores = defaultdict(lambda: np.zeros((len(SHARES), len(true))))
    for part, number in product(parts, range(min(PARTS, len(true)))):
        rest, held = part != number, part == number
        for rule, counts in picks(stack[:, rest], true[rest], budget, multilabel).items():
            scores[rule][:, held] += held_out(blend(stack, counts), true, rest, multilabel) / repeats
    return dict(scores)


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
