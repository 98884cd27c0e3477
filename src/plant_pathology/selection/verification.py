"""Let a bundle predict images that its networks were validated on, and compare with what was stored of their runs.

A bundle is sold with the score of stored predictions. So its own networks, loaded from its own files as the kernel
loads them, must give these predictions again before it is called the best.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plant_pathology.core.errors import UserError
from plant_pathology.inference.predictor import Predictor
from plant_pathology.selection.choice import Choice
from plant_pathology.selection.trained_runs import TrainedRun
from plant_pathology.store.pixels import read_pixels
from plant_pathology.store.version import Version

IMAGES = 16  # per fold
REFERENCES = 32  # images that travel in a bundle
# The largest difference of a probability, or of a number in standard deviations. On a CPU in 32 bits only the last
# digits change; a GPU may round factors to 11 bits (TF32); a run in 16 bits keeps 8 or 11, and is predicted in 32.
TOLERANCE, TOLERANCE_16_BITS = 0.01, 0.05
PRECISE = ("32", "32-true", "64", "64-true")  # values of trainer.precision


def verify(bundle: Path, choice: Choice, runs: Sequence[TrainedRun], version: Version) -> None:
    """Check each network of a bundle against its run, and their blend against the one that was scored.

    A network that was trained on all images is checked by the few that its run predicted; no blend was scored with it.

    Args:
        bundle: folder of the bundle.
        runs: of the networks, in the order of the bundle's members.
        version: of the data, which holds the images.

    Raises:
        UserError: a network, or the blend, predicts something else.
    """
    predictor = Predictor(bundle, half=False)
    folds = sorted({run.fold for run in runs if not run.is_on_all})
    blended = not any(run.is_on_all for run in runs)
    limit = TOLERANCE if all(is_precise(run) for run in runs) else TOLERANCE_16_BITS
    for number, run in enumerate(runs):
        if run.is_on_all:
            names = run.predictions.images[spread(np.arange(len(run.predictions.images)), run.predictions.true, IMAGES)]
            predicted = predictor.predict_member(number, stored_squares(version, names))
            compare(predicted, outputs_of(run, names), run.result, limit, f"{run.folder}: its packed network")
    for fold in folds:
        rows = spread(np.flatnonzero(choice.best.fold == fold), choice.best.true, IMAGES)
        names = choice.best.images[rows]
        squares = stored_squares(version, names)
        blend: Any = 0.0
        for number, run in enumerate(runs):
            if run.fold == fold:
                predicted, stored = predictor.predict_member(number, squares), outputs_of(run, names)
                compare(predicted, stored, run.result, limit, f"{run.folder}: its packed network")
                if not isinstance(stored, np.ndarray):  # of the others, the blend that was scored knew nothing
                    predicted = predicted * (stored.toarray() != 0)
                # A candidate's networks share its weight, and only one of them has not seen the fold.
                blend = blend + predicted * predictor.spec["members"][number]["weight"] * len(folds)
        if blended:
            compare(blend, choice.outputs[rows], runs[0].result, limit, f"{bundle}: the blend of the packed networks")


def reference_images(choice: Choice, version: Version) -> np.ndarray:
    """Return images that travel in the bundle, spread over what is true of them, (n, side, side, 3) uint8."""
    rows = spread(np.arange(len(choice.best.images)), choice.best.true, REFERENCES)
    return stored_squares(version, choice.best.images[rows])


def is_precise(run: TrainedRun) -> bool:
    return str(run.result["config"]["trainer"]["precision"]) in PRECISE


def spread(rows: np.ndarray, true: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` of the rows, spread over what is true of them.

    Args:
        rows: row numbers.
        true: of all rows, as in metrics.py.
    """
    _, kind = np.unique(true[rows], axis=0, return_inverse=True)
    places = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
    return rows[np.argsort(kind.ravel(), kind="stable")[places]]


def stored_squares(version: Version, names: np.ndarray) -> np.ndarray:
    """Return images as they were validated, (n, side, side, 3) uint8.

    Raises:
        UserError: the version lacks one.
    """
    found = dict(read_pixels(version, names.tolist()))
    if missing := [name for name in names.tolist() if name not in found]:
        raise UserError(f"{version.ref} has no image {missing[0]}, which the runs predicted: start the sweep again")
    return np.stack([found[name] for name in names.tolist()])


def outputs_of(run: TrainedRun, names: np.ndarray) -> Any:
    """Return what a run predicted for these images, as `Predictions` holds it."""
    order = np.argsort(run.predictions.images)
    return run.predictions.outputs[order[np.searchsorted(run.predictions.images, names, sorter=order)]]


def compare(predicted: np.ndarray, stored: Any, result: dict[str, Any], limit: float, what: str) -> None:
    """Compare outputs of the same images.

    Args:
        predicted: (n, outputs).
        stored: (n, outputs), or a csr_array that holds the likeliest outputs alone.
        result: result.json of a run, for the scale of numbers.
        limit: the largest difference that is allowed.
        what: predicted, for the message.

    Raises:
        UserError: a difference is larger, or is not a number.
    """
    if not isinstance(stored, np.ndarray):
        known = stored.tocoo()
        predicted, stored = predicted[known.row, known.col], known.data
    scale = result["network"]["scale"]
    difference = float(np.abs(predicted - stored).max() / (scale["std"] if scale else 1))
    if not difference <= limit:  # a difference that is not a number is not allowed either
        raise UserError(
            f"{what} predicts other outputs than were scored, by {difference:.2g} where {limit:g} is allowed: start the"
            " sweep again after deleting that folder, and report it if it stays so"
        )
