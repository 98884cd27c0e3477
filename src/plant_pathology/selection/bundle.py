"""What select hands on: networks as safetensors, and bundle.json with all else that predicting takes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from plant_pathology.competition.spec import Competition
from plant_pathology.core.files import atomic_folder, write_json
from plant_pathology.inference.decision import Decision
from plant_pathology.selection.leaderboard import Configuration

PREFIX = "network."  # of the timm network's weights in a checkpoint


def write_bundle(
    folder: Path,
    members: dict[str, tuple[Configuration, float]],
    decision: Decision,
    score: dict[str, Any],
    competition: Competition,
) -> None:
    """Write models/best.

    Args:
        members: by name, configurations with their weights, which sum to 1; a configuration's networks share its own.
    """
    networks = [
        (result, run, weight / len(configuration.results))
        for configuration, weight in members.values()
        for result, run in zip(configuration.results, configuration.folders, strict=True)
    ]
    (first, _), *_ = members.values()
    with atomic_folder(folder) as work:
        for result, run, _ in networks:
            save_weights(run / "best.ckpt", work / weights_name(result))
        write_json(
            work / "bundle.json",
            {
                "competition": competition.name,
                "title": competition.title,
                "synthetic": competition.synthetic,
                "test_images": competition.test_images,
                "sample_submission": competition.sample_submission,
                "image_column": competition.image_column,
                "label_column": competition.label_column,
                "separator": competition.separator,
                "multilabel": competition.multilabel,
                "labels": competition.labels,
                "decision": {"by": decision.by, "values": decision.values.tolist()},
                "fallback": most_frequent(first.true, competition),
                "members": [member(result, weight) for result, _, weight in networks],
                "score": score,
                "data": {"ref": first.results[0]["data_ref"], "sha256": first.results[0]["data"]},
                "runs": [
                    {key: result[key] for key in ("run", "f1", "epoch", "config", "code")} for result, _, _ in networks
                ],
            },
        )


def member(result: dict[str, Any], weight: float) -> dict[str, Any]:
    network = result["network"]
    return {
        "run": result["run"],
        "architecture": network["name"],
        "weights": weights_name(result),
        "weight": weight,
        **{key: network[key] for key in ("image_size", "views", "mean", "std")},
    }


def weights_name(result: dict[str, Any]) -> str:
    return f"{result['run']}.safetensors"


def save_weights(checkpoint: Path, path: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    weights = {key.removeprefix(PREFIX): value.contiguous() for key, value in state.items() if key.startswith(PREFIX)}
    save_file(weights, path)
    path.chmod(0o644)


def most_frequent(true: np.ndarray, competition: Competition) -> str:
    """The label set that stands in most rows, as a submission spells it."""
    sets, counts = np.unique(true, axis=0, return_counts=True)
    return competition.separator.join(np.array(competition.labels)[sets[counts.argmax()]])
