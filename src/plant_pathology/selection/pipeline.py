"""Rank the sweep's runs, choose an ensemble and a decision rule, and write the bundle and its reports.

Reads stored predictions, a few images to verify the bundle with, and test images, where there are any; trains no
network.
"""

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import task_of
from plant_pathology.competition.time_limit import TimeLimit
from plant_pathology.core.files import remove_leftovers, write_json
from plant_pathology.core.one_command import one_command
from plant_pathology.inference.decision import CUTS, EXPECTED_F1, LIKELIEST, RANKING, THRESHOLDS
from plant_pathology.selection.bootstrap import Gain
from plant_pathology.selection.candidates import Candidate, candidates_of
from plant_pathology.selection.choice import Choice, choose
from plant_pathology.selection.eligibility import RESOURCES, eligible
from plant_pathology.selection.leaderboard import leaderboard
from plant_pathology.selection.record import METRICS, RECORD, SHIFT, write_record
from plant_pathology.selection.tables import TABLES, write_tables
from plant_pathology.selection.trained_runs import TrainedRun, read_runs


def select(cfg: DictConfig) -> None:
    """Write models/best and the tables and metrics in reports/, and print a summary.

    Raises:
        UserError: there is no finished run, the runs do not fit together or the config, no candidate fits the kernel,
            or the bundle does not predict what its runs did.
        BusyError: another command works on models/ or reports/.
    """
    competition = Competition.from_config(cfg)
    models, reports = Path(cfg.paths.models), Path(cfg.paths.reports)
    with one_command(writes=[models, reports]):
        remove_leftovers(models / "best", *(reports / name for name in (*TABLES, METRICS, SHIFT, RECORD)))
        runs, version = read_runs(cfg, competition)
        labels, scale = runs[0].predictions.labels, runs[0].result["network"]["scale"]
        task = task_of(competition, labels, scale)
        candidates = candidates_of(runs, task, cfg.select.folds)
        among, budget, left_out = eligible(candidates, cfg, TimeLimit.from_config(cfg, competition))
        choice = choose(among, budget, task, cfg.select.decision, cfg.seed)
        # Imported here, so that runs which do not fit together are refused without waiting for torch.
        from plant_pathology.selection.bundle import write_bundle
        from plant_pathology.selection.shift import measure_shift, message_of

        write_bundle(models / "best", choice, competition, task, version)
        write_tables(reports, leaderboard(candidates, competition, left_out), choice, labels, task)
        write_json(reports / METRICS, metrics_of(choice, candidates, runs, competition))
        shift = measure_shift(cfg, competition, choice, models / "best", version)
        write_json(reports / SHIFT, shift)
        write_record(reports, models / "best", runs[0].made_for)
    print_summary(choice, len(among), left_out, competition)
    print(message_of(shift))


def metrics_of(
    choice: Choice, candidates: list[Candidate], runs: list[TrainedRun], competition: Competition
) -> dict[str, Any]:
    """Return the content of metrics.json."""
    low, high = choice.interval
    return {
        "competition": competition.name,
        "synthetic": competition.synthetic,
        "metric": competition.metric.name,
        "run": choice.best.name,
        "run_score": choice.best.score.value,
        "score": choice.score.value,
        "low": low,
        "high": high,
        "f1": both_f1(choice),
        **choice_metrics(choice),
        "configurations": len(candidates),
        "on_all_images": sum(bool(each.on_all) for each, _ in choice.members),
        "runs": len(runs),
        "train_seconds": sum(run.result["seconds"] for run in runs),
    }


def both_f1(choice: Choice) -> dict[str, float] | None:
    """Return the bundle's F1 averaged over images and over all labels of all images; None where it decides no sets.

    Leaderboards and benchmarks of one competition may differ in this. Held out, as the score; where that is the mean of
    several divisions, the other F1 is of the last one.
    """
    true, decided = choice.score.true, choice.score.decided
    if true.ndim != 2 or decided.dtype != bool:
        return None
    own = {choice.score.metric.name: choice.score.value}
    return {name: own.get(name, metric_of(name).score(true, decided)) for name in ("sample_f1", "micro_f1")}


def choice_metrics(choice: Choice) -> dict[str, Any]:
    """Return the sections of metrics.json on the ensemble, the decision and what the kernel has to carry and run."""
    return {
        "ensemble": {
            "used": choice.ensemble_used,
            "rule": choice.ensemble_rule,
            "configurations": len(choice.members),
            **choice.ensemble_gain._asdict(),
        },
        "decision": {
            "by": choice.decision.by,
            "empty": choice.decision.empty,
            "share": choice.share,
            **choice.decision_gain._asdict(),
        },
        "kernel": dict(zip(RESOURCES, np.round(choice.cost, 4).tolist(), strict=True)),
    }


def print_summary(choice: Choice, candidates: int, left_out: dict[str, str], competition: Competition) -> None:
    """Print the best candidate, the gains of the ensemble and the decision, and the score of the bundle.

    Args:
        candidates: number of candidates that the choice was among.
        left_out: why others were left out, by name.
    """
    best, metric = choice.best, competition.metric
    direction = "" if metric.sign > 0 else " (lower is better)"
    print(
        f"{best.name} is the best of {candidates} candidates, {metric.name} {best.score.value:.4f}{direction} on"
        f" {competition.title}"
    )
    for name, reason in left_out.items():
        print(f"{name} is left out: {reason}")
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
        print(f"decision {describe_decision(choice)}, compared with the plain decision: {gain}")
    for member, _ in choice.members:
        if member.on_all:
            names = ", ".join(run.name for run in member.on_all)
            epochs = ", ".join(str(each["epoch"] + 1) for each in member.results)
            where = "beside it" if member.folds_predict else "in its place"
            print(
                f"{member.name}: {where} predicts what was trained on all images for"
                f" {member.on_all[0].result['epochs']} epochs ({names}); the folds' best epochs are {epochs}; score and"
                " decision are theirs"
            )
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
