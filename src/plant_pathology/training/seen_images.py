"""Refuse weights that were trained on images that a run validates with: its score would be that of images it knows.

A run's validation.npz names the images that it was not trained on. Where it began with the weights of another run, they
are among those of that one, because this check was made there, too.
"""

from pathlib import Path
from typing import Any

import numpy as np

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.schema import ALL
from plant_pathology.data.index import ARRAY, open_array
from plant_pathology.data.predictions import read_predictions
from plant_pathology.inference.bundle import SPEC
from plant_pathology.runs.finished import verified_result
from plant_pathology.runs.run import BEST, PREDICTIONS, Run, initial_weights


def require_unseen(run: Run) -> None:
    """Check the weights that a run starts from; say so where nothing tells which images they have seen.

    Weights of another competition have seen none of this one's.

    Raises:
        UserError: they were trained on images that the run validates with, or are a bundle's, which does not say on
            which it was.
        DamagedRunError: files of the run that they come from are not those that it was finished with.
    """
    weights, validates = initial_weights(run.cfg), run.cfg.data.fold != ALL
    result = verified_result(weights.parent) if weights and weights.name == BEST else None
    if not validates:
        return
    if weights is None:  # those of a repository
        return _tell_unknown(run, run.cfg.model.name)
    source, named = weights.parent, f"model.init_from={run.cfg.model.init_from}"
    competition = run.cfg.competition.name
    if result:
        if result["config"]["competition"]["name"] == competition:
            _check_images(run, named, _left_out(source, result))
    elif not (source / SPEC).is_file():
        _tell_unknown(run, str(weights))
    elif read_json(source / SPEC, "select again").get("competition") == competition:
        raise UserError(
            f"{named}: a bundle does not say which images its networks were trained on: name the run,"
            f" model.init_from={weights.stem}"
        )


def _tell_unknown(run: Run, weights: str) -> None:
    print(
        f"{run.name}: nothing says on which images {weights} was trained: where fold {run.cfg.data.fold} was among"
        " them, the score is too high",
        flush=True,
    )


def _left_out(folder: Path, result: dict[str, Any]) -> np.ndarray:
    """Return the names of the images that a run was not trained on."""
    names = read_predictions(folder / PREDICTIONS).images
    return names[:0] if result["config"]["data"]["fold"] == ALL else names


def _check_images(run: Run, named: str, left_out: np.ndarray) -> None:
    index, fold = open_array(run.version.open(ARRAY)), run.cfg.data.fold
    validated = np.char.decode(index["image"][index["fold"] == fold], "utf-8")
    if seen := int((~np.isin(validated, left_out)).sum()):
        raise UserError(
            f"{named} was trained on {seen} of the {len(validated)} images that data.fold={fold} validates with, so the"
            " score would be too high: name a run that left them out, or train without validation (data.fold=all)"
        )
