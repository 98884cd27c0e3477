"""Runs seen together, here or on other machines: status, watch, stop, continue, cost.

The runs of a sweep under way are named in runs/.sweep, and stay there when some of them fail; starting the same sweep
again does only what is missing. runs/sweep.json names the runs of the last sweep besides.
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
    """Hydra's callback around a multirun: adds the folds to what is swept, and keeps the index of what was."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        add_folds(config)
        # This one may be refused, or a dry run: until a run of it begins, the last sweep is the one to be asked about.
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
    """Make the runs that were entered the last sweep's; of a sweep without any nothing is to be known."""
    if (runs / SWEEP).exists():
        write_json(runs / INDEX, {"runs": current_sweep(runs)})
        shutil.rmtree(runs / SWEEP)


def current_sweep(runs: Path) -> list[str]:
    """The runs of the sweep under way; none where none has begun."""
    return sorted(entry.name for entry in (runs / SWEEP).glob("*"))


def latest_sweep(runs: Path) -> list[str]:
    """The runs of the sweep under way, or else of the last one; none where there was none."""
    if names := current_sweep(runs):
        return names
    return read_json(runs / INDEX, "start the sweep again")["runs"] if (runs / INDEX).exists() else []


def add_folds(config: DictConfig) -> None:
    """With train.folds above 1 the sweep has an axis more, unless the command line gives data.fold."""
    folds, prepared = config.train.folds, config.prepare.folds
    if not isinstance(folds, int) or not 1 <= folds <= prepared:
        # Hydra makes a warning of a callback's exception.
        sys.exit(f"error: train.folds={folds}: choose a whole number from 1 to prepare.folds={prepared}")
    if folds > 1:
        OmegaConf.update(config, "hydra.sweeper.params", {"data.fold": f"range(0,{folds})"}, force_add=True)


def sweep_results(runs: Path) -> list[dict[str, Any]]:
    """The results of the last sweep's runs, best sample-F1 first, equals by name.

    Of a sweep that is not done, or in which runs failed, those that are over; the others are named.

    Raises:
        UserError: no run of a sweep is over.
    """
    remedy = "run `python -m plant_pathology.train -m`; it does only what is missing"
    names = latest_sweep(runs)
    over = [name for name in names if (runs / name / RESULT).exists()]
    if missing := sorted({*names} - {*over}):
        print(f"left out of {len(names)} runs, since they failed or are not over: {', '.join(missing)}")
    results = [read_json(runs / name / RESULT, remedy) for name in over]
    if not results:
        raise UserError(f"{runs} holds no run of a sweep that is over: {remedy}")
    return sorted(results, key=lambda result: (-result["f1"], result["run"]))


def sweep_folders(cfg: DictConfig) -> list[Path]:
    """The runs of the sweep under way, or else of the last one; all there are where neither is known."""
    runs = Path(cfg.paths.runs)
    if sync := sync_of(cfg):
        sync.pull_all(is_record)
    if names := latest_sweep(runs):
        return [runs / name for name in names]
    if found := sorted(path.parent for path in runs.glob(f"*/{RUN}")):
        return found
    raise UserError(f"{runs} holds no runs: start some with `python -m plant_pathology.train -m`")


def named_folders(cfg: DictConfig) -> list[Path]:
    """The folders of the runs whose names begin with `run`."""
    if not cfg.run:
        raise UserError("run is not set: name the run, or how its name begins, run=<name>")
    runs = sweep_folders(cfg) + sorted(path.parent for path in Path(cfg.paths.runs).glob(f"*/{RUN}"))
    if found := list(dict.fromkeys(folder for folder in runs if folder.name.startswith(cfg.run) and folder.exists())):
        return found
    raise UserError(f"run={cfg.run}: there is none; there are {', '.join(sorted({run.name for run in runs}))}")
