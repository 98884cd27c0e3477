"""Cross-fitting: estimate the selection's score on images it was not tuned on.

Out-of-fold predictions are new to the networks, but not to decisions and weights tuned on them. So the whole selection
is repeated on four fifths of the rows and decides for the other fifth, for each fifth in turn; the metric scores all
rows together. With few rows, the score depends on the division, so all of this is repeated with other divisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plant_pathology.competition.task import Task
from plant_pathology.selection.bootstrap import Score
from plant_pathology.selection.decisions import Offer, tune_decisions
from plant_pathology.selection.ensemble import Budget, blend, build_ensembles

PARTS = 5
ROWS, MAX_REPEATS = 10_000, 10  # repeat until that many rows are scored, but at most so often


@dataclass(frozen=True)
class Rules:
    """A pair of ensemble rule and decision rule, with their cross-fitted scores.

    Args:
        ensemble: a rule of `build_ensembles`.
        decision: place among the offered ones.
        score: of the pair.
        plain: of the ensemble with the plain decision, which is offered first.
    """

    ensemble: str
    decision: int
    score: Score
    plain: Score


def best_rules(scores: dict[str, list[Score]], first: int = 0) -> Rules:
    """Return the pair with the best score; among equals the first ensemble rule, then the first decision.

    Args:
        scores: what `crossfit` returns.
        first: place of the first decision that may be chosen; those before it are only compared with.
    """
    signed = {rule: np.array([score.signed for score in each[first:]]).round(12) for rule, each in scores.items()}
    rule = max(signed, key=lambda each: signed[each].max())
    decision = first + int(np.argmax(signed[rule]))
    return Rules(rule, decision, scores[rule][decision], scores[rule][0])


def crossfit(
    stack: Sequence[Any], true: np.ndarray, budget: Budget, task: Task, offered: list[Offer], seed: int
) -> dict[str, list[Score]]:
    """Build ensembles and tune decisions on some rows, and score what they decide for the others.

    Args:
        stack: (n, outputs) of each candidate.
        true: as in metrics.py.

    Returns:
        By ensemble rule, one score per offered decision: the mean over repeats.
    """
    rng, repeats = np.random.default_rng(seed), min(max(1, ROWS // len(true)), MAX_REPEATS)
    divisions = [rng.permutation(len(true)) % PARTS for _ in range(repeats)]
    repeated = [decide_held_out(stack, true, budget, task, offered, division) for division in divisions]
    return {
        rule: [mean_score(task, true, [each[rule][place] for each in repeated]) for place in range(len(offered))]
        for rule in repeated[0]
    }


def decide_held_out(
    stack: Sequence[Any], true: np.ndarray, budget: Budget, task: Task, offered: list[Offer], division: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """Return what each offered decision decides for rows that it was not tuned on, by ensemble rule.

    Args:
        division: (n,) the part that each row belongs to.
    """
    decided: dict[str, list[np.ndarray]] = {}
    for part in range(min(PARTS, len(true))):
        tuning, held_out = division != part, division == part
        ensembles = build_ensembles([each[tuning] for each in stack], true[tuning], budget, task)
        for rule, counts in ensembles.items():
            outputs = blend(stack, counts)
            decisions = tune_decisions(offered, task, outputs[tuning], true[tuning])
            found = [decision.decide(outputs[held_out]) for decision in decisions]
            whole = decided.setdefault(rule, [np.zeros((len(true), *rows.shape[1:]), rows.dtype) for rows in found])
            for all_rows, rows in zip(whole, found, strict=True):
                all_rows[held_out] = rows
    return decided


def mean_score(task: Task, true: np.ndarray, repeated: list[np.ndarray]) -> Score:
    """Score what was decided in each repeat, and return the mean; the last repeat's rows stand for all in intervals."""
    if not task.metric.rows:
        value = np.mean([task.metric.score(true, decided) for decided in repeated])
        return Score(task.metric, float(value), true, None, repeated[-1])
    rows = np.zeros(len(true))
    for decided in repeated:
        rows += task.metric.rows(true, decided) / len(repeated)
    return Score(task.metric, float(rows.mean()), true, rows, repeated[-1])
