"""Cross-fitting: estimate the selection's score on images it was not tuned on.

Out-of-fold predictions are new to the networks, but not to decisions and weights tuned on them. So the whole selection
is repeated on four fifths of the rows and scored on the other fifth, for each fifth in turn. With few rows, the score
depends on the division, so all of this is repeated with other divisions.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np

from plant_pathology.competition.metrics import row_f1
from plant_pathology.selection.decisions import COMMON, OFFERED, tune_decisions
from plant_pathology.selection.ensemble import Budget, blend, build_ensembles

PARTS = 5
ROWS, MAX_REPEATS = 10_000, 10  # repeat until that many rows are scored, but at most so often


@dataclass(frozen=True)
class Rules:
    """A pair of ensemble rule and decision rule, with their cross-fitted scores.

    Args:
        ensemble: a rule of `build_ensembles`.
        decision: index in OFFERED.
        f1: (n,) F1 of each row.
        common_f1: (n,) the same with the common threshold.
    """

    ensemble: str
    decision: int
    f1: np.ndarray
    common_f1: np.ndarray


def best_rules(scores: dict[str, np.ndarray]) -> Rules:
    """Return the pair with the best mean score; among equals the first ensemble rule, then the first of OFFERED.

    Args:
        scores: what `crossfit` returns.
    """
    rule = max(scores, key=lambda each: scores[each].mean(axis=1).max().round(12))
    decision = int(scores[rule].mean(axis=1).round(12).argmax())
    return Rules(rule, decision, scores[rule][decision], scores[rule][COMMON])


def crossfit(stack: np.ndarray, true: np.ndarray, budget: Budget, multilabel: bool, seed: int) -> dict[str, np.ndarray]:
    """Build ensembles and tune decisions on some rows, and score them on the others.

    Args:
        stack: (candidates, n, labels) probabilities.
        true: (n, labels) bool.

    Returns:
        By ensemble rule, (len(OFFERED), n): F1 of each row, the mean over repeats.
    """
    rng, repeats = np.random.default_rng(seed), min(max(1, ROWS // len(true)), MAX_REPEATS)
    divisions = np.stack([rng.permutation(len(true)) % PARTS for _ in range(repeats)])
    scores: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(OFFERED), len(true))))
    for division, part in product(divisions, range(min(PARTS, len(true)))):
        tuning, held_out = division != part, division == part
        for rule, counts in build_ensembles(stack[:, tuning], true[tuning], budget, multilabel).items():
            scores[rule][:, held_out] += score_held_out(blend(stack, counts), true, tuning, multilabel) / repeats
    return dict(scores)


def score_held_out(probabilities: np.ndarray, true: np.ndarray, tuning: np.ndarray, multilabel: bool) -> np.ndarray:
    """Tune every decision of OFFERED on some rows, and return its F1 on each of the others.

    Args:
        tuning: (n,) bool, True for rows to tune on.

    Returns:
        (len(OFFERED), rows not tuned on).
    """
    decisions = tune_decisions(probabilities[tuning], true[tuning], multilabel)
    return np.stack([row_f1(decision.labels(probabilities[~tuning]), true[~tuning]) for decision in decisions])
