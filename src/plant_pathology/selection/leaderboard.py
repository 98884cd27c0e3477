"""Make the leaderboard: one row per candidate, with score, interval, cost and the settings that vary."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.spec import Competition
from plant_pathology.inference.decision import THRESHOLDS
from plant_pathology.runs.cost import dollars
from plant_pathology.selection.axes import TITLES, flatten_configs, varying_keys
from plant_pathology.selection.bootstrap import confidence_interval
from plant_pathology.selection.candidates import Candidate


def leaderboard(
    candidates: list[Candidate], competition: Competition, left_out: Mapping[str, str] = MappingProxyType({})
) -> pd.DataFrame:
    """Return one row per candidate: those that the choice was among in their order, then the others in theirs.

    Each varying key but model and learning rate adds a column; `left_out` is empty or says why the choice was not among
    this one.

    Args:
        left_out: why a candidate was left out, by name.
    """
    settings = flatten_configs({each.name: each.results[0]["config"] for each in candidates})
    extra = set(varying_keys(settings)) - set(TITLES)
    others = settings[[key for key in settings if key in extra]].fillna("").to_dict("index")
    ordered = sorted(candidates, key=lambda each: each.name in left_out)
    return pd.DataFrame(
        leaderboard_row(each, others[each.name], competition) | {"left_out": left_out.get(each.name, "")}
        for each in ordered
    )


def leaderboard_row(candidate: Candidate, others: dict[Any, Any], competition: Competition) -> dict[str, Any]:
    """Return one row by column name.

    Args:
        others: varying settings besides model and learning rate.
    """
    results = candidate.results
    low, high = confidence_interval(candidate.score)
    seconds = sum(result["seconds"] for result in results)
    images_trained = sum(result["seconds"] * result["images_per_second"] for result in results)
    return {
        "run": candidate.name,
        "score": round(candidate.score.value, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "model": results[0]["config"]["model"]["name"],
        "lr": results[0]["config"]["model"]["lr"],
        "folds": len(results),
        **others,
        "best_epoch": round(float(np.median([result["epoch"] + 1 for result in results]))),
        "epochs": max(result["epochs"] for result in results),
        **({"threshold": round(float(candidate.plain.values[0]), 3)} if candidate.plain.by == THRESHOLDS else {}),
        "stopped": "; ".join(dict.fromkeys(result["stopped"] for result in results if result["stopped"])),
        "seconds": round(seconds, 3),
        "dollars": round(sum(dollars(run.folder) for run in candidate.runs), 4),
        "images_per_second": round(images_trained / seconds, 1),
        "data": results[0]["data_ref"],
        "competition": competition.name,
        "metric": competition.metric.name,
    }
