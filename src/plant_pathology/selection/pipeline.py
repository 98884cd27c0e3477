"""Rank the sweep's runs, choose an ensemble and a decision rule, and write the bundle and its reports.

Reads stored predictions, not images; trains nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from plant_pathology.competition.form import answers_of
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import task_of
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import write_json
from plant_pathology.inference.decision import CUTS, EXPECTED_F1, LIKELIEST, RANKING, THRESHOLDS
from plant_pathology.runs.predictions import PREDICTIONS, read_predictions
from plant_pathology.selection.bootstrap import Gain
from plant_pathology.selection.bundle import write_bundle
from plant_pathology.selection.candidates import Candidate, comparable, read_candidates
from plant_pathology.selection.choice import Choice, choose
from plant_pathology.selection.ensemble import Budget
from plant_pathology.selection.leaderboard import leaderboard
from plant_pathology.selection.tables import write_tables
from plant_pathology.sweeps.index import sweep_results

RESOURCES = ("networks", "megabytes", "seconds")  # as in Candidate.cost


def select(cfg: DictConfig) -> None:
    """Write models/best and the tables and metrics in reports/, and print a summary.

    Raises:
        UserError: there is no finished run, predictions do not belong to their result, or no candidate fits the kernel.
    """
    competition = Competition.from_config(cfg)
    runs, reports = Path(cfg.paths.runs), Path(cfg.paths.reports)
    results = sweep_results(runs)
    labels, scale = read_predictions(runs / results[0]["run"] / PREDICTIONS).labels, results[0]["network"]["scale"]
    task = task_of(competition, labels, scale)
    candidates = read_candidates(results, runs, labels, task)
    board = leaderboard(candidates, competition)
    fitting, budget = fit_budget(comparable(candidates), cfg)
    choice = choose(fitting, budget, task, cfg.select.decision, cfg.seed)

    low, high = choice.interval
    score = {"metric": competition.metric.name, "validation": choice.score.value, "low": low, "high": high}
    write_bundle(Path(cfg.paths.models) / "best", choice, answers_of(competition, labels), scale, score, competition)
    write_tables(reports, board, choice, labels, task)
    metrics = {
        "competition": competition.name,
        "synthetic": competition.synthetic,
        "metric": competition.metric.name,
        "run": choice.best.name,
        "run_score": choice.best.score.value,
        "score": choice.score.value,
        "low": low,
        "high": high,
        **choice_metrics(choice),
        "configurations": len(candidates),
        "runs": len(results),
        "train_seconds": sum(result["seconds"] for result in results),
    }
    write_json(reports / "metrics.json", metrics)
    print_summary(choice, len(candidates), competition)


def fit_budget(candidates: list[Candidate], cfg: DictConfig) -> tuple[list[Candidate], Budget]:
    """Keep the candidates that fit the kernel alone; return them with their costs and the kernel's limits.

    Raises:
        UserError: no candidate fits.
    """
    limits = np.array([cfg.select[key] for key in RESOURCES], float)
    costs = np.array([each.cost for each in candidates], float)
    fitting = np.flatnonzero((costs <= limits).all(axis=1))
    if not len(fitting):
        keys = [key for key, least, limit in zip(RESOURCES, costs.min(axis=0), limits, strict=True) if least > limit]
        raise UserError(
            f"no candidate fits the kernel: raise {', '.join(f'select.{key}' for key in keys or RESOURCES)}; the best"
            f" one needs {', '.join(f'{key}={cost:.4g}' for key, cost in zip(RESOURCES, costs[0], strict=True))}"
        )
    return [candidates[index] for index in fitting], Budget(costs[fitting], limits)


def choice_metrics(choice: Choice) -> dict[str, Any]:
    """Return the sections of metrics.json on the ensemble, the decision and what the kernel has to carry and run."""
    return {
        "ensemble": {
            "used": choice.ensemble_used,
            "rule": choice.ensemble_rule,
            "configurations": len(choice.members),
            **choice.ensemble_gain._asdict(),
        },
        "decision": {"by": choice.decision.by, "share": choice.share, **choice.decision_gain._asdict()},
        "kernel": dict(zip(RESOURCES, np.round(choice.cost, 4).tolist(), strict=True)),
    }


def print_summary(choice: Choice, candidates: int, competition: Competition) -> None:
    """Print the best candidate, the gains of the ensemble and the decision, and the score of the bundle.

    Args:
        candidates: number of candidates on the leaderboard.
    """
    best, metric = choice.best, competition.metric
    direction = "" if metric.sign > 0 else " (lower is better)"
    print(
        f"{best.name} is the best of {candidates} candidates, {metric.name} {best.score.value:.4f}{direction} on"
        f" {competition.title}"
    )
    if choice.ensemble_rule:
        use = "used" if choice.ensemble_used else "not used"
        gain = describe_gain(choice.ensemble_gain)
        print(f"ensemble ({choice.ensemble_rule}) compared with the best candidate: {gain}; {use}")
    elif candidates == 1:
        print("no ensemble: there is only one candidate")
    else:
        print("no ensemble: no other candidate predicted the same images and fits the kernel beside the best one")
    if len(choice.tuned) > 1:
        gain = describe_gain(choice.decision_gain)
        print(f"decision {describe_decision(choice)}, compared with one that is not tuned: {gain}")
    print(f"bundle: {metric.name} {choice.score.value:.4f}, cross-fitted: on images that it was not tuned on")


def describe_gain(gain: Gain) -> str:
    """Format a gain with its interval: +0.0120 (0.0030 to 0.0210)."""
    noise = ", noise: the interval contains 0" if gain.noise else ""
    return f"{gain.gain:+.4f} ({gain.low:.4f} to {gain.high:.4f}){noise}"


def describe_decision(choice: Choice) -> str:
    """Describe the decision rule in words, with the share of its tuning."""
    share = f"{choice.share:.0%}"
    by = choice.decision.by
    if by == EXPECTED_F1:
        return f"by expected F1 with {f'{share} calibrated' if choice.share else 'raw'} probabilities"
    if by == THRESHOLDS:
        return f"by thresholds, {share} of the way from the common one to one per label"
    if by == CUTS:
        return f"by the expected class number, cut {share} of the way from the middles to the best places"
    if by == LIKELIEST:
        return "by the likeliest label" + (f", rare ones weighted up by {share}" if choice.share else "")
    if by == RANKING:
        return "by the likeliest labels in order"
    return f"by {share} calibrated probabilities" if choice.share else "by raw predictions"
