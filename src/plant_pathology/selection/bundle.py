"""Write the bundle: the networks as safetensors, and bundle.json with all else that inference needs."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from plant_pathology.competition.spec import Competition
from plant_pathology.core.files import atomic_folder, write_json
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.custom import BUNDLED
from plant_pathology.selection.choice import Choice

PREFIX = "network."  # in a checkpoint, of the weights of the timm network


def write_bundle(
    folder: Path,
    choice: Choice,
    answers: Answers,
    scale: dict[str, float] | None,
    score: dict[str, Any],
    competition: Competition,
) -> None:
    """Write the bundle atomically.

    The networks of a candidate share its weight equally.

    Args:
        answers: what writes the cells of the form.
        scale: mean and std of the training numbers; None for labels.
        score: the bundle's validation score with its interval, for bundle.json.
    """
    networks = [
        (result, run, weight / len(candidate.results))
        for candidate, weight in choice.members
        for result, run in zip(candidate.results, candidate.folders, strict=True)
    ]
    first, _ = choice.members[0]
    fallback = fallback_of(first.true, choice.decided, choice.outputs.shape[1])
    with atomic_folder(folder) as work:
        for result, run, _ in networks:
            save_weights(run / "best.ckpt", work / weights_name(result))
        if competition.code:
            shutil.copyfile(competition.code, work / BUNDLED)
        write_json(
            work / "bundle.json",
            {
                "competition": competition.name,
                "title": competition.title,
                "synthetic": competition.synthetic,
                "kind": competition.target.kind,
                "outputs": choice.outputs.shape[1],
                "scale": scale,
                "test": asdict(competition.test),
                "answers": asdict(answers),
                "decision": {"by": choice.decision.by, "values": choice.decision.values.tolist()},
                "fallback": fallback.tolist(),
                "members": [member_spec(result, weight) for result, _, weight in networks],
                "score": score,
                "data": {"ref": first.results[0]["data_ref"], "sha256": first.results[0]["data"]},
                "runs": [
                    {key: result[key] for key in ("run", "score", "epoch", "config", "code")}
                    for result, _, _ in networks
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


def fallback_of(true: np.ndarray, decided: np.ndarray, outputs: int) -> np.ndarray:
    """Return what an image that cannot be read gets, one row like `decided`: the most frequent answer, or the mean.

    Args:
        true: of the validated images.
        decided: what the decision gives for them.
        outputs: number of labels.
    """
    if true.dtype.kind == "f":
        return true.mean(keepdims=True)
    if decided.ndim == 2 and decided.dtype != bool:
        shares = true.mean(axis=0) if true.ndim == 2 else np.bincount(true, minlength=outputs) / len(true)
        return (
            shares[None] if decided.dtype.kind == "f" else np.argsort(-shares, kind="stable")[None, : decided.shape[1]]
        )
    answers, counts = np.unique(true, axis=0, return_counts=True)
    return answers[[np.argmax(counts)]]
