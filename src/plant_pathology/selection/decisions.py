"""Tune the decision rules that cross-fitting compares.

A rule with values tuned on few rows overfits. So each rule is also offered with only a share of the tuning: between the
common threshold and one per label, or between raw and calibrated probabilities.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from plant_pathology.competition.metrics import row_f1
from plant_pathology.competition.task import Task, identity_calibration
from plant_pathology.core.errors import UserError
from plant_pathology.inference.decision import (
    CUTS,
    EXPECTED_F1,
    LIKELIEST,
    SIGMOID,
    SOFTMAX,
    THRESHOLDS,
    Decision,
)
from plant_pathology.selection.calibration import fit_sigmoid, fit_softmax
from plant_pathology.selection.thresholds import tune_cuts, tune_each_threshold, tune_thresholds

Offer = tuple[str, float]  # a rule, and the share of its tuning
QUARTERS, HALVES = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)
FEW_LABELS = 64  # the expected F1 costs time in the third power of the labels


def offers(task: Task, chosen: str | None) -> list[Offer]:
    """Return the rules to compare, the plain decision first: where a rule is chosen, its own offers follow it.

    Args:
        chosen: `select.decision` of the config; None for all that fit.

    Raises:
        UserError: the chosen rule does not fit the target and the metric.
    """
    fitting = [(task.rule, share) for share in shares(task)]
    if task.rule == THRESHOLDS and task.metric.rows is row_f1 and task.outputs <= FEW_LABELS:
        fitting += [(EXPECTED_F1, share) for share in HALVES]
    if task.rule == CUTS:
        fitting.append((LIKELIEST, 0.0))
    if chosen is None:
        return fitting
    if chosen not in (rules := dict.fromkeys(rule for rule, _ in fitting)):
        raise UserError(
            f"select.decision={chosen} does not fit target.kind={task.kind} and metric {task.metric.name}: choose"
            f" {' or '.join(rules)}"
        )
    return [offer for offer in fitting if offer[0] == chosen or offer == fitting[0]]


def shares(task: Task) -> tuple[float, ...]:
    """Return the shares of the tuning that are worth trying: none where tuning cannot raise the metric."""
    name = task.metric.name
    if task.rule in (THRESHOLDS, CUTS) and name in ("sample_f1", "macro_f1", "quadratic_weighted_kappa"):
        return QUARTERS
    if task.rule == LIKELIEST and name == "macro_f1":
        return QUARTERS
    if task.rule in (SIGMOID, SOFTMAX) and name == "log_loss":
        return HALVES
    return (0.0,)


def tune_decisions(offered: list[Offer], task: Task, outputs: Any, true: np.ndarray) -> list[Decision]:
    """Tune every offered decision on these rows.

    Args:
        offered: what `offers` returns.
        outputs: (n, outputs) probabilities or numbers.
        true: as in metrics.py.
    """
    plain = task.plain_decision(outputs, true)
    plain_values = {
        EXPECTED_F1: identity_calibration(task.outputs),
        LIKELIEST: np.zeros(task.outputs),
    } | ({} if task.rule == LIKELIEST else {task.rule: plain.values})
    tuned_values = {
        rule: tuner(task, rule, plain)(outputs, true)
        for rule in dict.fromkeys(rule for rule, share in offered if share > 0)
    }
    values = [
        interpolate(plain_values[rule], tuned_values[rule], share) if share else plain_values[rule]
        for rule, share in offered
    ]
    return [Decision(rule, each, task.empty) for (rule, _), each in zip(offered, values, strict=True)]


def tuner(task: Task, rule: str, plain: Decision) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Return what fits a rule's values to rows."""
    if rule == THRESHOLDS:
        if task.metric.rows is row_f1:
            return partial(tune_thresholds, common=plain.values[0])
        return tune_each_threshold
    if rule == CUTS:
        return partial(tune_cuts, metric=task.metric)
    if rule == LIKELIEST:
        return rarity
    return fit_softmax if rule == SOFTMAX else fit_sigmoid


def rarity(outputs: Any, true: np.ndarray) -> np.ndarray:
    """Return the logarithm of each class's weight, (labels,): one over its frequency, so that all count alike."""
    counts = np.bincount(true, minlength=outputs.shape[1])
    return -np.log((counts + 1) / (counts.sum() + len(counts)))


def interpolate(plain: np.ndarray, tuned: np.ndarray, share: float) -> np.ndarray:
    """Return the values at `share` of the way from the plain to the tuned ones."""
    return plain + share * (tuned - plain)
