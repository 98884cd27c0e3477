"""Write the bundle: the networks as safetensors, and bundle.json with all else that inference needs."""

import io
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from plant_pathology.competition.bundle import inference_hash
from plant_pathology.competition.form import answers_of
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import Task
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, naming
from plant_pathology.core.sealed import hashes_of, write_sealed
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.bundle import SPEC
from plant_pathology.inference.custom import BUNDLED
from plant_pathology.inference.half_precision import write_reference
from plant_pathology.inference.judgement import Tally
from plant_pathology.runs.finished import AGAIN
from plant_pathology.runs.folder import BEST
from plant_pathology.selection.choice import Choice
from plant_pathology.selection.eligibility import RESOURCES
from plant_pathology.selection.trained_runs import TrainedRun, trusted_bytes
from plant_pathology.selection.verification import reference_images, verify
from plant_pathology.store.version import Version

PREFIX = "network."  # in a checkpoint, of the weights of the timm network


def write_bundle(folder: Path, choice: Choice, competition: Competition, task: Task, version: Version) -> None:
    """Write the bundle atomically, after its networks predicted again what their runs predicted.

    The networks of a candidate share its weight equally.

    Args:
        task: what the runs were trained for.
        version: of the data that the runs were trained on.

    Raises:
        UserError: a network's weights are not finite, or it predicts something else than its run did.
    """
    networks = [(run, weight / len(member.networks)) for member, weight in choice.members for run in member.networks]
    first = networks[0][0]
    labels, scale = first.predictions.labels, first.result["network"]["scale"]
    low, high = choice.interval
    answers = answers_of(competition, labels)
    with atomic_folder(folder) as work:
        for run, _ in networks:
            save_weights(run, work / weights_name(run))
        if competition.code:
            shutil.copyfile(competition.code, work / BUNDLED)
        write_reference(work, reference_images(choice, version))
        write_sealed(
            work / SPEC,
            {
                "files": hashes_of(*sorted(work.iterdir())),
                "code": inference_hash(),
                "competition": competition.name,
                "title": competition.title,
                "synthetic": competition.synthetic,
                "kind": task.kind,
                "outputs": task.outputs,
                "scale": scale,
                "test": asdict(competition.test),
                "submit": asdict(competition.submit),
                "answers": asdict(answers),
                "decision": asdict(choice.decision) | {"values": choice.decision.values.tolist()},
                "expected": asdict(expected_tally(choice, answers)),
                "fallback": fallback_of(choice.best.true, choice.decided, task.outputs).tolist(),
                "members": [member_spec(run, weight) for run, weight in networks],
                "seconds_per_image": round(float(choice.cost[RESOURCES.index("seconds")]), 6),
                "score": {"metric": task.metric.name, "validation": choice.score.value, "low": low, "high": high},
                "data": {"ref": first.result["data_ref"], "sha256": first.result["data"]},
                "runs": [
                    {key: run.result[key] for key in ("run", "score", "epoch", "config", "code", "files")}
                    for run, _ in networks
                ],
            },
        )
        verify(work, choice, [run for run, _ in networks], version)


def member_spec(run: TrainedRun, weight: float) -> dict[str, Any]:
    """Return a network's entry in bundle.json."""
    network = run.result["network"]
    return {
        "run": run.name,
        "architecture": network["name"],
        "arguments": network.get("arguments", {}),  # earlier runs had none
        "weights": weights_name(run),
        "weight": weight,
        **{key: network[key] for key in ("image_size", "views", "mean", "std")},
    }


def expected_tally(choice: Choice, answers: Answers) -> Tally:
    """Return how often the bundle gives each answer to images that its networks were not trained on."""
    return Tally.of(answers.cells(choice.decided, answers.labels or ["number"]), answers)


def weights_name(run: TrainedRun) -> str:
    return f"{run.name}.safetensors"


def save_weights(run: TrainedRun, path: Path) -> None:
    """Save a run's network as safetensors; errors as in `weights_of`."""
    content = save(weights_of(run))
    with naming(path):
        path.write_bytes(content)  # safetensors' own writing ends in another error on a full disk


def weights_of(run: TrainedRun) -> dict[str, torch.Tensor]:
    """Return the weights of a run's network by name.

    Raises:
        UserError: a weight is not finite.
        DamagedRunError: the checkpoint is not the one that belongs to the run's result.
    """
    content = trusted_bytes(run.folder, BEST, run.result)
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["state_dict"]
    # Cloned, because safetensors refuses tensors that share memory, as some networks' do.
    weights = {
        key.removeprefix(PREFIX): value.clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
        if key.startswith(PREFIX)
    }
    if infinite := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise UserError(f"{run.folder}/{BEST}: {infinite[0]} is not finite: delete that folder, and {AGAIN}")
    return weights


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
