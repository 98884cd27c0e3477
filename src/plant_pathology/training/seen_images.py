"""Refuse weights that were trained on images that a run validates with: its score would be that of images it knows.

A run's validation.npz names the images of its competition that it was not trained on. result.json of a run that began
with other weights has their `origin`, which keeps the same of all runs before it:
    left_out: by competition, the names of the images that no run of it was trained on.
    unknown: weights at the beginning of which nothing says what they have seen; null for none.
"""

from pathlib import Path
from typing import Any

import numpy as np

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.schema import ON_ALL
from plant_pathology.data.index import ARRAY, open_array
from plant_pathology.data.predictions import read_predictions
from plant_pathology.inference.bundle import SPEC
from plant_pathology.runs.finished import verified_result
from plant_pathology.runs.folder import BEST, PREDICTIONS
from plant_pathology.runs.initial_weights import initial_weights
from plant_pathology.runs.run import Run

ORIGIN = "origin"


def origin_of(run: Run) -> dict[str, Any]:
    """Return the origin of the weights that a run starts from, as its result.json is to have it.

    Raises:
        DamagedRunError: files of the run that they come from are not those that it was finished with.
    """
    weights = initial_weights(run.cfg)
    result = verified_result(weights.parent) if weights and weights.name == BEST else None
    if not weights or not result:  # those of a repository, of a bundle or of any file
        return {"left_out": {}, "unknown": str(weights or run.cfg.model.name)}
    before = result.get(ORIGIN, {"left_out": {}, "unknown": None})
    left_out = {result["config"]["competition"]["name"]: _left_out(weights.parent, result)}
    return {**before, "left_out": before["left_out"] | left_out}


def require_unseen(run: Run) -> None:
    """Check the weights that a run starts from; say so where nothing tells which images they have seen.

    Raises:
        UserError: they were trained on images that the run validates with, or are a bundle's, which does not say on
            which it was.
        DamagedRunError: files of the run that they come from are not those that it was finished with.
    """
    origin, competition, fold = origin_of(run), run.cfg.competition.name, run.cfg.data.fold
    if fold in ON_ALL:
        return
    weights, named = initial_weights(run.cfg), f"model.init_from={run.cfg.model.init_from}"
    spec = weights.parent / SPEC if weights else None
    if spec and spec.is_file() and read_json(spec, "select again").get("competition") == competition:
        assert weights
        raise UserError(
            f"{named}: a bundle does not say which images its networks were trained on: name the run,"
            f" model.init_from={weights.stem}"
        )
    if competition in origin["left_out"]:
        _check_images(run, named, origin["left_out"][competition])
    if origin["unknown"]:
        print(
            f"{run.name}: nothing says on which images {origin['unknown']} was trained: where fold {fold} was among"
            " them, the score is too high",
            flush=True,
        )


def _left_out(folder: Path, result: dict[str, Any]) -> list[str]:
    """Return the names of the images that a run was not trained on."""
    return [] if result["config"]["data"]["fold"] in ON_ALL else read_predictions(folder / PREDICTIONS).images.tolist()


def _check_images(run: Run, named: str, left_out: list[str]) -> None:
    index, fold = open_array(run.version.open(ARRAY)), run.cfg.data.fold
    validated = np.char.decode(index["image"][index["fold"] == fold], "utf-8")
    if seen := int((~np.isin(validated, left_out)).sum()):
        raise UserError(
            f"{named} was trained on {seen} of the {len(validated)} images that data.fold={fold} validates with, so the"
            f" score would be too high: train that one with data.fold={fold}, too, which is then taken; name a run that"
            " left them out; or train without validation (data.fold=all)"
        )
