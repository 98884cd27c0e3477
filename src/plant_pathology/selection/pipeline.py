"""Stage: the sweep's runs to a leaderboard, an ensemble, what decides on its labels, and the bundle that predicts.

Reads predictions, no images; trains nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.metrics import label_counts
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, write_json
from plant_pathology.inference.decision import EXPECTED_F1, THRESHOLDS, Decision
from plant_pathology.selection import ensemble
from plant_pathology.selection.bootstrap import interval
from plant_pathology.selection.bundle import write_bundle
from plant_pathology.selection.crossfit import OFFERED, best_choice, crossfit, decisions
from plant_pathology.selection.ensemble import Budget, blend
from plant_pathology.selection.leaderboard import Configuration, comparable, leaderboard, read_configurations
from plant_pathology.sweeps.index import sweep_results

RESOURCES = ("networks", "megabytes", "seconds")


def select(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    runs, reports = Path(cfg.paths.runs), Path(cfg.paths.reports)
    results = sweep_results(runs)
    configurations = read_configurations(results, runs, competition)
    board = leaderboard(configurations, competition)
    candidates, budget = affordable(comparable(configurations), cfg)
    best = candidates[0]
    stack = np.stack([each.probabilities for each in candidates])
    scores = crossfit(stack, best.true, budget, competition.multilabel, cfg.seed)
    single = best_choice({"best_1": scores.pop("best_1")})
    together = best_choice(scores)
    rules = ensemble.picks(stack, best.true, budget, competition.multilabel)
    combining = any((picked > 0).sum() > 1 for picked in rules.values())
    counts = rules[together.rule]
    accepted = bool(together.f1.mean() > single.f1.mean() and (counts > 0).sum() > 1)
    if not accepted:
        counts = np.eye(len(candidates), dtype=int)[0]
    choice = together if accepted else single
    probabilities = blend(stack, counts)
    tried = decisions(probabilities, best.true, competition.multilabel)
    decision, share = tried[choice.place], OFFERED[choice.place][1]
    predicted = decision.labels(probabilities)

    score = {"metric": "sample_f1", "validation": float(choice.f1.mean()), **bounds(choice.f1)}
    weights = counts / counts.sum()
    members = {each.name: (each, weight) for each, weight in zip(candidates, weights, strict=True) if weight}
    write_bundle(Path(cfg.paths.models) / "best", members, decision, score, competition)
    write_table(reports / "leaderboard.csv", board)
    labels = label_counts(competition.labels, best.true, predicted).round(4)
    write_table(reports / "labels.csv", labels[["label", "precision", "recall", "f1", "images"]])
    write_table(reports / "ensemble.csv", ensemble_table(members))
    write_table(reports / "thresholds.csv", thresholds_table(tried, decision, competition))
    write_table(reports / "predictions.csv", predictions_table(best, probabilities, predicted, competition))
    gains = {
        "ensemble": difference(together.f1, single.f1),
        "decision": difference(choice.f1, choice.common),
    }
    write_json(
        reports / "metrics.json",
        {
            "competition": competition.name,
            "synthetic": competition.synthetic,
            "run": best.name,
            "run_f1": best.sample_f1,
            "sample_f1": score["validation"],
            "low": score["low"],
            "high": score["high"],
            "ensemble": {
                "used": accepted,
                "rule": together.rule if combining else None,
                "configurations": len(members),
                **gains["ensemble"],
            },
            "decision": {"by": decision.by, "share": share, **gains["decision"]},
            "kernel": dict(zip(RESOURCES, np.round(budget.costs[counts > 0].sum(axis=0), 4).tolist(), strict=True)),
            "configurations": len(configurations),
            "runs": len(results),
            "train_seconds": sum(result["seconds"] for result in results),
        },
    )
    print(
        f"{best.name} is the best of {len(configurations)} configurations, sample-F1 {best.sample_f1:.4f}"
        f" on {competition.title}"
    )
    if combining:
        use = "used" if accepted else "not used"
        print(f"ensemble ({together.rule}) against the best single: {worth(gains['ensemble'])}; {use}")
    elif len(configurations) == 1:
        print("no ensemble: there is one configuration")
    else:
        print("no ensemble: no other configuration fits the kernel beside the best, or predicted the same images")
    if competition.multilabel:
        print(f"labels {told(decision, share)}, against a common threshold: {worth(gains['decision'])}")
    print(f"the bundle: sample-F1 {score['validation']:.4f} on rows that it was not selected on")


def affordable(configurations: list[Configuration], cfg: DictConfig) -> tuple[list[Configuration], Budget]:
    """Those that fit the kernel alone, and what all of them may cost together.

    Raises:
        UserError: none does.
    """
    limits = np.array([cfg.select[key] for key in RESOURCES], float)
    costs = np.array([each.cost for each in configurations], float)
    fitting = (costs <= limits).all(axis=1)
    if not fitting.any():
        keys = [key for key, least, limit in zip(RESOURCES, costs.min(axis=0), limits, strict=True) if least > limit]
        raise UserError(
            f"no configuration fits the kernel: raise {', '.join(f'select.{key}' for key in keys or RESOURCES)}; the"
            f" best one takes {', '.join(f'{key}={cost:.4g}' for key, cost in zip(RESOURCES, costs[0], strict=True))}"
        )
    return [each for each, fits in zip(configurations, fitting, strict=True) if fits], Budget(costs[fitting], limits)


def difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Mean of the paired differences of rows, with its interval; noise where that holds 0."""
    limits = bounds(ours - theirs)
    noise = limits["low"] <= 0 <= limits["high"]
    return {"gain": float((ours - theirs).mean()), **limits, "noise": bool(noise)}


def bounds(scores: np.ndarray) -> dict[str, float]:
    return dict(zip(("low", "high"), interval(scores), strict=True))


def worth(gain: dict[str, Any]) -> str:
    """As a person reads it: +0.012 (0.003 to 0.021)."""
    noise = ", noise: the interval holds 0" if gain["noise"] else ""
    return f"{gain['gain']:+.4f} ({gain['low']:.4f} to {gain['high']:.4f}){noise}"


def ensemble_table(members: dict[str, tuple[Configuration, float]]) -> pd.DataFrame:
    """A row a configuration that the bundle carries, heaviest first."""
    table = pd.DataFrame(
        {
            "configuration": name,
            "weight": round(weight, 4),
            "networks": len(configuration.results),
            "sample_f1": round(configuration.sample_f1, 6),
        }
        for name, (configuration, weight) in members.items()
    )
    return table.sort_values("weight", ascending=False, kind="stable")


def told(decision: Decision, share: float) -> str:
    """As a person reads it."""
    if decision.by == EXPECTED_F1:
        return f"by the F1 to be expected, probabilities {f'{share:.0%} calibrated' if share else 'as they are'}"
    return f"by thresholds, {share:.0%} of the way from the common to their own"


def thresholds_table(tried: list[Decision], used: Decision, competition: Competition) -> pd.DataFrame:
    """A row a label; empty where no threshold decides."""
    of = {"common": tried[0], "tuned": tried[OFFERED.index((THRESHOLDS, 1.0))], "used": used}
    thresholds = {name: each.values.round(4) if each.by == THRESHOLDS else None for name, each in of.items()}
    return pd.DataFrame({"label": competition.labels, **thresholds})


def predictions_table(
    best: Configuration, probabilities: np.ndarray, predicted: np.ndarray, competition: Competition
) -> pd.DataFrame:
    """What the bundle says of images that its networks have not seen: image, fold, and for each label is_<label>, what
    is true, p_<label>, how likely it is, and has_<label>, what is decided.
    """
    blocks = {"is": best.true.astype(int), "p": probabilities, "has": predicted.astype(int)}
    tables = [
        pd.DataFrame(values, columns=[f"{prefix}_{label}" for label in competition.labels])
        for prefix, values in blocks.items()
    ]
    return pd.concat([pd.Series(best.images, name="image"), pd.Series(best.fold, name="fold"), *tables], axis=1)


def write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic_file(path) as work:
        table.to_csv(work, index=False)
