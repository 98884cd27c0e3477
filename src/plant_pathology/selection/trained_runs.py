"""Read the runs to select from: verified, finite, and all of one competition, one version of the data and one code."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from plant_pathology.competition.purpose import check_purpose
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import bytes_hash
from plant_pathology.core.schema import ON_ALL
from plant_pathology.data.predictions import Predictions, read_predictions
from plant_pathology.runs.finished import DamagedRunError
from plant_pathology.runs.folder import PREDICTIONS
from plant_pathology.runs.run import SCORED, code_hash
from plant_pathology.store.connect import open_version
from plant_pathology.store.version import Version
from plant_pathology.sweeps.index import sweep_results

EVERYTHING = "run `dvc repro`, which makes again what depends on it"


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Args:
        folder: the run's folder.
        result: content of result.json.
        predictions: for the images that it was not trained on; of a run on all images, for a few of them.
    """

    folder: Path
    result: dict[str, Any]
    predictions: Predictions

    @property
    def name(self) -> str:
        return self.result["run"]

    @property
    def fold(self) -> int:
        """Return the fold that it was not trained on."""
        return self.result["config"]["data"]["fold"]

    @property
    def is_on_all(self) -> bool:
        """Return whether it was trained on the images of all folds, so that nothing can be scored by it."""
        return self.result["config"]["data"]["fold"] in ON_ALL

    @property
    def is_finite(self) -> bool:
        """Return whether its outputs and its score are numbers."""
        outputs = self.predictions.outputs
        values = outputs if isinstance(outputs, np.ndarray) else outputs.data
        return bool(np.isfinite(values).all() and (self.is_on_all or np.isfinite(self.result["score"])))

    @property
    def made_for(self) -> dict[str, Any]:
        """Return what it was trained for, by key of `competition:` in the config."""
        trained_for = self.result["config"]["competition"]
        return {
            "name": trained_for["name"],
            "target.kind": trained_for["kind"],
            "metric": trained_for["metric"],
            "target.labels": self.predictions.labels,
            **{f"submit.{key}": trained_for[key] for key in SCORED},
        }


def read_runs(cfg: DictConfig, competition: Competition) -> tuple[list[TrainedRun], Version]:
    """Read the finished runs of the sweep whose numbers are finite, best score first; list the others.

    Returns:
        The runs, and the version of the data that all of them were trained on.

    Raises:
        UserError: there is no such run, or they were trained for something else than the config describes today, or
            not all for the same.
    """
    runs = Path(cfg.paths.runs)
    read = [read_run(runs / result["run"], result) for result in sweep_results(runs, cfg.select.sweep)]
    check_alike(read)
    check_code(read[0], competition)
    for run in read:
        check_purpose(str(run.folder), run.made_for, competition, EVERYTHING)
    version = data_of(read[0], cfg)
    finite = [run for run in read if run.is_finite]
    if failed := [run.name for run in read if not run.is_finite]:
        print(f"left out, {len(failed)} of {len(read)} runs whose numbers are not finite: {', '.join(failed)}")
    if not finite:
        raise UserError(
            f"{runs}: no run predicts finite numbers: lower model.lr, or set trainer.gradient_clip_val, and start the"
            " sweep again"
        )
    return finite, version


def read_run(folder: Path, result: dict[str, Any]) -> TrainedRun:
    """Read a run's predictions."""
    predictions = read_predictions(io.BytesIO(trusted_bytes(folder, PREDICTIONS, result)))
    return TrainedRun(folder, result, predictions)


def trusted_bytes(folder: Path, name: str, result: dict[str, Any]) -> bytes:
    """Read a file of a run that its result vouches for.

    It is read after the run was verified, and a sweep may train that run again meanwhile.

    Raises:
        DamagedRunError: it is not the file that belongs to the result.
    """
    content = (folder / name).read_bytes()
    if bytes_hash(content) != result["files"][name]:
        raise DamagedRunError(folder, {name: "was replaced while it was read"})
    return content


def check_alike(runs: list[TrainedRun]) -> None:
    """Check that all runs had the same data, labels and code.

    Raises:
        UserError: naming two runs that differ.
    """
    first = runs[0]
    for run in runs[1:]:
        data = [f"{each.result['data_ref']} ({each.result['data'][:8]})" for each in (first, run)]
        for what, ours, theirs in (
            ("data", first.result["data"], run.result["data"]),
            ("code", first.result["code"], run.result["code"]),
            ("labels", first.predictions.labels, run.predictions.labels),
        ):
            if ours != theirs:
                both = " and ".join(data) if what == "data" else f"other {what}"
                raise UserError(
                    f"{first.folder} and {run.folder} were trained with {both}, so their scores do not compare: start"
                    " the sweep again (`python -m plant_pathology.train -m`)"
                )


def check_code(run: TrainedRun, competition: Competition) -> None:
    """Check that a run was trained by today's code, which scores it and predicts with it.

    Raises:
        UserError: it was trained by other code.
    """
    if run.result["code"] != code_hash(competition.code):
        raise UserError(
            f"{run.folder} was trained by other code than today's: start the sweep again (`python -m"
            " plant_pathology.train -m`), or check out the commit that trained it"
        )


def data_of(run: TrainedRun, cfg: DictConfig) -> Version:
    """Open the version of the data that a run was trained on, which must be the one that the config names today.

    Raises:
        UserError: another version was pushed since, or the store does not hold it.
    """
    version, ref = open_version(cfg), run.result["data_ref"]
    if version.sha256 != run.result["data"]:
        named = "data.ref" if cfg.data.ref else cfg.paths.pointer
        raise UserError(
            f"{run.folder} was trained on {ref} ({run.result['data'][:8]}), but {named} names {version.ref}"
            f" ({version.sha256[:8]}): start the sweep again, or set data.ref={ref} to select from these runs"
        )
    return version
