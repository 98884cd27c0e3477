"""Choose the ensemble and the decision rule of the bundle."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from plant_pathology.competition.task import Task
from plant_pathology.inference.decision import Decision
from plant_pathology.selection.bootstrap import Gain, Score, confidence_interval, paired_gain
from plant_pathology.selection.candidates import Candidate
from plant_pathology.selection.crossfit import best_rules, crossfit
from plant_pathology.selection.decisions import offers, tune_decisions
from plant_pathology.selection.ensemble import SINGLE, Budget, blend, build_ensembles


@dataclass(frozen=True)
class Choice:
    """The members of the bundle with their decision rule, and cross-fitted scores.

    Args:
        best: the best candidate; all candidates share its images, folds and truth.
        members: candidates with their weights, which sum to 1.
        ensemble_used: False where the best candidate is taken alone.
        ensemble_rule: the ensemble rule compared with the best candidate; None where no two candidates fit together.
        tuned: each offered decision by rule and share of its tuning, tuned on all rows.
        decision: the one used.
        share: the share of the tuning in it.
        outputs: (n, outputs) of the members' blend, out of fold.
        decided: by the decision used.
        score: the cross-fitted score of this choice.
        interval: ends of its confidence interval.
        ensemble_gain: of the ensemble over the best candidate.
        decision_gain: of the decision over the plain one.
        cost: (resources,) of all members.
    """

    best: Candidate
    members: list[tuple[Candidate, float]]
    ensemble_used: bool
    ensemble_rule: str | None
    tuned: dict[tuple[str, float], Decision]
    decision: Decision
    share: float
    outputs: Any
    decided: np.ndarray
    score: Score
    interval: tuple[float, float]
    ensemble_gain: Gain
    decision_gain: Gain
    cost: np.ndarray


def choose(candidates: list[Candidate], budget: Budget, task: Task, rule: str | None, seed: int) -> Choice:
    """Choose the rules by cross-fitting, then tune them on all rows.

    Args:
        candidates: of the same images, best first; each fits the budget alone.
        budget: costs of the candidates in the same order, and limits.
        rule: the only decision rule to choose; None: any that fits the task.
    """
    stack, true = [each.outputs for each in candidates], candidates[0].true
    offered = offers(task, rule)
    scores = crossfit(stack, true, budget, task, offered, seed)
    first = next(place for place, (by, _) in enumerate(offered) if rule in (None, by))
    single = best_rules({SINGLE: scores.pop(SINGLE)}, first)
    combined = best_rules(scores, first)

    ensembles = build_ensembles(stack, true, budget, task)
    can_combine = any((counts > 0).sum() > 1 for counts in ensembles.values())
    counts = ensembles[combined.ensemble]
    ensemble_used = bool(combined.score.signed > single.score.signed and (counts > 0).sum() > 1)
    if not ensemble_used:
        counts = np.eye(len(candidates), dtype=int)[0]

    rules = combined if ensemble_used else single
    outputs = blend(stack, counts)
    tuned = tune_decisions(offered, task, outputs, true)
    decision = tuned[rules.decision]
    weights = counts / counts.sum()
    return Choice(
        best=candidates[0],
        members=[(each, weight) for each, weight in zip(candidates, weights, strict=True) if weight],
        ensemble_used=ensemble_used,
        ensemble_rule=combined.ensemble if can_combine else None,
        tuned=dict(zip(offered, tuned, strict=True)),
        decision=decision,
        share=offered[rules.decision][1],
        outputs=outputs,
        decided=decision.decide(outputs),
        score=rules.score,
        interval=confidence_interval(rules.score),
        ensemble_gain=paired_gain(combined.score, single.score),
        decision_gain=paired_gain(rules.score, rules.plain),
        cost=budget.costs[counts > 0].sum(axis=0),
    )
