"""What selection is worth on images that it has not seen.

Out-of-fold predictions are new to the networks, but not to decisions and weights tuned on them. So the whole
selection is done over on four fifths of the rows, and scored on the other fifth, five times; and all of it again with
other fifths where rows are few, since one division of them is luck.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np

from plant_pathology.competition.metrics import best_threshold, row_f1
from plant_pathology.inference.decision import EXPECTED_F1, LIKELIEST, THRESHOLDS, Decision
from plant_pathology.selection.calibration import fitted, unchanged
from plant_pathology.selection.ensemble import Budget, blend, picks
from plant_pathology.selection.thresholds import tuned

PARTS = 5
ROWS, REPEATS = 10_000, 10  # all of it again until so many rows were scored, at most so often
# Decisions, with the share of the way from the plain to the tuned: from the common threshold to each label's own, and
# from probabilities as they are to calibrated ones.
OFFERED = [(THRESHOLDS, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] + [(EXPECTED_F1, s) for s in (0.0, 0.5, 1.0)]


@dataclass(frozen=True)
class Choice:
    """A rule of `ensemble.picks` with a decision, and what they reach together.

    Args:
        place: of the decision in OFFERED.
        f1: (n,) of each row, by what was tuned on other rows; `common`: likewise, by the common threshold.
    """

    rule: str
    place: int
    f1: np.ndarray
    common: np.ndarray


def best_choice(scores: dict[str, np.ndarray]) -> Choice:
    """The best mean; of equals the rule named first, and the first of OFFERED.

    Args:
        scores: by rule, what `crossfit` gave.
    """
    rule = max(scores, key=lambda each: scores[each].mean(axis=1).max().round(12))
    place = int(scores[rule].mean(axis=1).round(12).argmax())
    return Choice(rule, place, scores[rule][place], scores[rule][0])


def crossfit(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool, seed: int) -> dict[str, np.ndarray]:
    """Select on some rows, score on others.

    Args:
        stack: (candidates, n, labels) probabilities.
        true: (n, labels) bool.

    Returns:
        By rule, (offered, n) F1 of each row; the mean where that was done several times.
    """
    rng, repeats = np.random.default_rng(seed), min(max(1, ROWS // len(true)), REPEATS)
    parts = np.stack([rng.permutation(len(true)) % PARTS for _ in range(repeats)])
    scores = defaultdict(lambda: np.zeros((len(OFFERED), len(true))))
    for part, number in product(parts, range(min(PARTS, len(true)))):
        rest, held = part != number, part == number
        for rule, counts in picks(stack[:, rest], true[rest], budget, multilabel).items():
            scores[rule][:, held] += held_out(blend(stack, counts), true, rest, multilabel) / repeats
    return dict(scores)


def held_out(probabilities: np.ndarray, true: np.ndarray, rest: np.ndarray, multilabel: bool) -> np.ndarray:
    """(offered, rows not in `rest`): F1 by the decisions tuned on `rest`."""
    tried = decisions(probabilities[rest], true[rest], multilabel)
    return np.stack([row_f1(decision.labels(probabilities[~rest]), true[~rest]) for decision in tried])


def decisions(probabilities: np.ndarray, true: np.ndarray, multilabel: bool) -> list[Decision]:
    """Those of OFFERED, tuned on these rows; the likeliest throughout where one label a row makes them moot."""
    if not multilabel:
        return [Decision(LIKELIEST, np.empty(0))] * len(OFFERED)
    common, _ = best_threshold(probabilities, true)
    ends = {
        THRESHOLDS: (np.full(true.shape[1], common), tuned(probabilities, true, common)),
        EXPECTED_F1: (unchanged(true.shape[1]), fitted(probabilities, true)),
    }
    return [Decision(by, shrunk(*ends[by], share)) for by, share in OFFERED]


def shrunk(plain: np.ndarray, tuned: np.ndarray, share: float) -> np.ndarray:
    """Of the way from the plain values to the tuned ones, `share`."""
    return plain + share * (tuned - plain)
