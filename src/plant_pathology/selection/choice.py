"""Choose the ensemble and the decision rule of the bundle."""

from dataclasses import dataclass

import numpy as np

from plant_pathology.inference.decision import Decision
from plant_pathology.selection.bootstrap import Gain, confidence_interval, paired_gain
from plant_pathology.selection.candidates import Candidate
from plant_pathology.selection.crossfit import best_rules, crossfit
from plant_pathology.selection.decisions import OFFERED, tune_decisions
from plant_pathology.selection.ensemble import SINGLE, Budget, blend, build_ensembles


@dataclass(frozen=True)
class Choice:
    """The members of the bundle with their decision rule, and cross-fitted scores.

    Args:
        best: the best candidate; all candidates share its images, folds and truth.
        members: candidates with their weights, which sum to 1.
        ensemble_used: False where the best candidate is taken alone.
        ensemble_rule: the ensemble rule compared with the best candidate; None where no two candidates fit together.
        tuned: each decision of OFFERED, tuned on all rows.
        decision: the one used.
        share: the share of the tuning in it.
        probabilities: (n, labels) of the members' blend, out of fold.
        predicted: (n, labels) bool, by the decision used.
        f1: the cross-fitted sample-F1 of this choice.
        interval: ends of its confidence interval.
        ensemble_gain: of the ensemble over the best candidate.
        decision_gain: of the decision over the common threshold.
        cost: (resources,) of all members.
    """

    best: Candidate
    members: list[tuple[Candidate, float]]
    ensemble_used: bool
    ensemble_rule: str | None
    tuned: list[Decision]
    decision: Decision
    share: float
    probabilities: np.ndarray
    predicted: np.ndarray
    f1: float
    interval: tuple[float, float]
    ensemble_gain: Gain
    decision_gain: Gain
    cost: np.ndarray


def choose(candidates: list[Candidate], budget: Budget, multilabel: bool, seed: int) -> Choice:
    """Choose the rules by cross-fitting, then tune them on all rows.

    Args:
        candidates: of the same images, best first; each fits the budget alone.
        budget: costs of the candidates in the same order, and limits.
    """
    stack, true = np.stack([each.probabilities for each in candidates]), candidates[0].true
    scores = crossfit(stack, true, budget, multilabel, seed)
    single = best_rules({SINGLE: scores.pop(SINGLE)})
    combined = best_rules(scores)

    ensembles = build_ensembles(stack, true, budget, multilabel)
    can_combine = any((counts > 0).sum() > 1 for counts in ensembles.values())
    counts = ensembles[combined.ensemble]
    ensemble_used = bool(combined.f1.mean() > single.f1.mean() and (counts > 0).sum() > 1)
    if not ensemble_used:
        counts = np.eye(len(candidates), dtype=int)[0]

    rules = combined if ensemble_used else single
    probabilities = blend(stack, counts)
    tuned = tune_decisions(probabilities, true, multilabel)
    decision = tuned[rules.decision]
    weights = counts / counts.sum()
    return Choice(
        best=candidates[0],
        members=[(each, weight) for each, weight in zip(candidates, weights, strict=True) if weight],
        ensemble_used=ensemble_used,
        ensemble_rule=combined.ensemble if can_combine else None,
        tuned=tuned,
        decision=decision,
        share=OFFERED[rules.decision][1],
        probabilities=probabilities,
        predicted=decision.labels(probabilities),
        f1=float(rules.f1.mean()),
        interval=confidence_interval(rules.f1),
        ensemble_gain=paired_gain(combined.f1, single.f1),
        decision_gain=paired_gain(rules.f1, rules.common_f1),
        cost=budget.costs[counts > 0].sum(axis=0),
    )
