"""Write the bundle: the networks as safetensors, and bundle.json with all else that inference needs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from plant_pathology.competition.spec import Competition
from plant_pathology.core.files import atomic_folder, write_json
from plant_pathology.inference.decision import Decision
from plant_pathology.selection.candidates import Candidate

PREFIX = "network."  # in a checkpoint, of the weights of the timm network


def write_bundle(
    folder: Path,
    members: list[tuple[Candidate, float]],
    decision: Decision,
    score: dict[str, Any],
    competition: Competition,
) -> None:
    """Write the bundle atomically.

    Args:
        members: candidates with their weights, which sum to 1; the networks of a candidate share its weight equally.
        score: the bundle's validation score with its interval, for bundle.json.
    """
    networks = [
        (result, run, weight / len(candidate.results))
        for candidate, weight in members
        for result, run in zip(candidate.results, candidate.folders, strict=True)
    ]
    first, _ = members[0]
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
                "fallback": most_frequent_labels(first.true, competition),
                "members": [member_spec(result, weight) for result, _, weight in networks],
                "score": score,
                "data": {"ref": first.results[0]["data_ref"], "sha256": first.results[0]["data"]},
                "runs": [
                    {key: result[key] for key in ("run", "f1", "epoch", "config", "code")} for result, _, _ in networks
                ],
            },
        )


def member_spec(result: dict[str, Any], weight: float) -> dict[str, Any]:
    """Return a network's entry in bundle.json."""
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
    """Save a checkpoint's network as safetensors, readable by everyone."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    weights = {key.removeprefix(PREFIX): value.contiguous() for key, value in state.items() if key.startswith(PREFIX)}
    save_file(weights, path)
    path.chmod(0o644)


def most_frequent_labels(true: np.ndarray, competition: Competition) -> str:
    """Return the most frequent label set in the spelling of a submission.

    Args:
        true: (n, labels) bool.
    """
    sets, counts = np.unique(true, axis=0, return_counts=True)
    return competition.separator.join(np.array(competition.labels)[sets[counts.argmax()]])
