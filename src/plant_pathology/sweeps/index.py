"""Keep the list of runs in a sweep, and read their folders and results.

runs/.sweep lists the runs of the current sweep, one empty file per run, and stays there when some of them fail:
starting the same sweep again does only what is missing. runs/sweep.json lists the runs of the last
sweep that ended.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json, write_json
from plant_pathology.runs.run import RESULT, RUN, SWEEP
from plant_pathology.runs.status import failure_cause
from plant_pathology.runs.sync import is_record, sync_of

INDEX = "sweep.json"


class SweepIndex(Callback):
    """Hydra's callback around a multirun: add the folds to the sweep, and write the list of its runs when it ends."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        add_folds(config)
        # The new sweep may be refused, or be a dry run: until its first run starts, keep the previous sweep's list.
        close_current_sweep(Path(config.paths.runs))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        runs = Path(config.paths.runs)
        names = current_sweep(runs)
        failed = [name for name in names if not (runs / name / RESULT).exists()]
        if failed:
            causes = "\n  ".join(f"{name}: {failure_cause(runs / name)}" for name in failed)
            sys.exit(
                f"error: {len(failed)} of {len(names)} runs failed; start the sweep again to do only these\n  {causes}"
            )
        close_current_sweep(runs)


def close_current_sweep(runs: Path) -> None:
    """Move the list of the current sweep to runs/sweep.json; do nothing if no run has started since the last call."""
    if (runs / SWEEP).exists():
        write_json(runs / INDEX, {"runs": current_sweep(runs)})
        shutil.rmtree(runs / SWEEP)


def current_sweep(runs: Path) -> list[str]:
    """Return the names of the runs in the current sweep; an empty list before the first run starts."""
    return sorted(entry.name for entry in (runs / SWEEP).glob("*"))


def latest_sweep(runs: Path) -> list[str]:
    """Return the names of the runs in the current sweep, or else in the last one; an empty list without either."""
    if names := current_sweep(runs):
        return names
    return read_json(runs / INDEX, "start the sweep again")["runs"] if (runs / INDEX).exists() else []


def add_folds(config: DictConfig) -> None:
    """Sweep over data.fold too if train.folds is above 1; data.fold on the command line wins."""
    folds, prepared = config.train.folds, config.prepare.folds
    if not isinstance(folds, int) or not 1 <= folds <= prepared:
        # Exit, because Hydra turns a callback's exception into a warning.
        sys.exit(f"error: train.folds={folds}: choose a whole number from 1 to prepare.folds={prepared}")
    if folds > 1:
        OmegaConf.update(config, "hydra.sweeper.params", {"data.fold": f"range(0,{folds})"}, force_add=True)


def sweep_results(runs: Path) -> list[dict[str, Any]]:
    """Return the results of the latest sweep's finished runs, best score first, equal ones by name.

    Print the names of runs that failed or have not finished.

    Raises:
        UserError: no run has finished.
    """
    remedy = "run `python -m plant_pathology.train -m`; it does only what is missing"
    names = latest_sweep(runs)
    finished = [name for name in names if (runs / name / RESULT).exists()]
    if missing := sorted({*names} - {*finished}):
        print(f"left out, {len(missing)} of {len(names)} runs that failed or have not finished: {', '.join(missing)}")
    results = [read_json(runs / name / RESULT, remedy) for name in finished]
    if not results:
        raise UserError(f"{runs} holds no finished run of a sweep: {remedy}")
    if earlier := [result["run"] for result in results if "val_score" not in result]:
        raise UserError(f"{runs / earlier[0]} was trained by an earlier version of the code: {remedy}")
    return sorted(results, key=lambda result: (-result["val_score"], result["run"]))


def sweep_folders(cfg: DictConfig) -> list[Path]:
    """Return the folders of the latest sweep's runs, or of all runs if there was no sweep.

    With store.runs=true, first download what other machines have written, except weights.

    Raises:
        UserError: there are no runs.
    """
    runs = Path(cfg.paths.runs)
    if sync := sync_of(cfg):
        sync.pull_all(is_record)
    if names := latest_sweep(runs):
        return [runs / name for name in names]
    if found := _all_folders(runs):
        return found
    raise UserError(f"{runs} holds no runs: start some with `python -m plant_pathology.train -m`")


def named_folders(cfg: DictConfig) -> list[Path]:
    """Return the folders of all runs, of this sweep or not, whose names begin with `run`.

    Raises:
        UserError: `run` is not set, or no run's name begins with it.
    """
    if not cfg.run:
        raise UserError("run is not set: add run=<a run's name, or its beginning>")
    folders = sweep_folders(cfg) + _all_folders(Path(cfg.paths.runs))
    if found := [path for path in dict.fromkeys(folders) if path.name.startswith(cfg.run) and path.exists()]:
        return found
    raise UserError(f"run={cfg.run}: no run has this name; the runs are {', '.join(sorted({f.name for f in folders}))}")


def _all_folders(runs: Path) -> list[Path]:
    return sorted(path.parent for path in runs.glob(f"*/{RUN}"))
