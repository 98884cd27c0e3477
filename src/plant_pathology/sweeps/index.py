"""Judge a sweep by its own runs when it ends, and read the runs and results of the sweep that started last.

Which runs belong to which sweep is kept by runs/sweep_lists.py. Starting a sweep again makes a new list of the same
runs, and does only what is missing.
"""

import math
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.schema import ON_ALL
from plant_pathology.runs.finished import divergence_of, verified_result
from plant_pathology.runs.folder import RESULT, RUN
from plant_pathology.runs.status import failure_cause
from plant_pathology.runs.sweep_lists import begin_sweep, chosen_sweep, end_sweep, own_sweep, sweeps
from plant_pathology.runs.sync import is_record, sync_of

AGAIN = "start the sweep again (`python -m plant_pathology.train -m`); it does only what is missing"


class SweepIndex(Callback):
    """Hydra's callback around a multirun: add the folds to the sweep, and tell its failed runs when it ends."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        add_folds(config)
        begin_sweep(Path(config.paths.runs))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        runs, number = Path(config.paths.runs), own_sweep()
        assert number is not None, "on_multirun_start took it"
        names = end_sweep(runs, number)
        unfinished = [name for name in names if not (runs / name / RESULT).exists()]
        reasons = {name: reason for name in unfinished if (reason := divergence_of(runs / name))}
        failed = {name: failure_cause(runs / name) for name in unfinished if name not in reasons}
        if reasons and len(reasons) < len(names):
            print(f"left out, {len(reasons)} of {len(names)} runs that diverged{_lines(reasons)}", flush=True)
        if failed:
            again = "start the sweep again to do only these"
            sys.exit(f"error: {len(failed)} of {len(names)} runs failed; {again}{_lines(failed)}")
        if reasons and len(reasons) == len(names):
            sys.exit(f"error: all {len(names)} runs diverged{_lines(reasons)}")


def _lines(reasons: dict[str, str]) -> str:
    return "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())


def add_folds(config: DictConfig) -> None:
    """Sweep over data.fold too, as `train.folds` and `train.last` say; data.fold on the command line wins."""
    folds, last, prepared = config.train.folds, config.train.last, config.prepare.folds
    if not isinstance(folds, int) or not 1 <= folds <= prepared:
        sys.exit(f"error: train.folds={folds}: choose a whole number from 1 to prepare.folds={prepared}")
    if type(last) is not int or not 0 <= last <= len(ON_ALL):
        sys.exit(f"error: train.last={last}: choose a whole number from 0 to {len(ON_ALL)}")
    trained = [*map(str, range(folds)), *ON_ALL[:last]]
    if len(trained) > 1:
        if OmegaConf.select(config, "hydra.sweeper.params") is None:  # which Hydra allows, and null takes no key
            OmegaConf.update(config, "hydra.sweeper.params", {}, merge=False, force_add=True)
        OmegaConf.update(config, "hydra.sweeper.params", {"data.fold": ",".join(trained)}, force_add=True)


def sweep_results(runs: Path, number: int | None = None) -> list[dict[str, Any]]:
    """Return the verified results of a sweep's finished runs, best score first, equal ones by name, without one last.

    Print which runs are left out because they failed, diverged or have not finished, and whether other sweeps have
    other runs.

    Args:
        number: of the sweep; None for the one that started last.

    Raises:
        UserError: there is no such sweep, or no run has finished.
        DamagedRunError: a finished run's files are not those that it wrote: without it, another run could be the best.
    """
    names = chosen_sweep(runs, number)
    if others := [str(each) for each, theirs in sweeps(runs).items() if {*theirs} - {*names}]:
        which = f"sweep {number}" if number else "the sweep that started last"
        print(f"{which} of {runs} is used; others have other runs: select.sweep={' or '.join(others)}")
    results = {name: result for name in names if (result := verified_result(runs / name))}
    if missing := [name for name in names if name not in results]:
        listed = ", ".join(f"{name} (diverged)" if divergence_of(runs / name) else name for name in missing)
        print(f"left out, {len(missing)} of {len(names)} runs that failed or have not finished: {listed}")
    if not results:
        raise UserError(f"{runs} holds no finished run of a sweep: {AGAIN}")
    return sorted(results.values(), key=_best_first)


def _best_first(result: dict[str, Any]) -> tuple[float, str]:
    return math.inf if result["val_score"] is None else -result["val_score"], result["run"]


def sweep_folders(cfg: DictConfig) -> list[Path]:
    """Return the folders of the runs of a sweep, or of all runs if there was no sweep: `select.sweep`, or the last one.

    With store.runs=true, first download what other machines have written, except weights.

    Raises:
        UserError: there are no runs.
    """
    runs = Path(cfg.paths.runs)
    if sync := sync_of(cfg):
        sync.pull_all(is_record)
    if names := chosen_sweep(runs, cfg.select.sweep):
        return [runs / name for name in names]
    if found := _all_folders(runs):
        return found
    raise UserError(f"{runs} holds no runs: start some with `python -m plant_pathology.train -m`")


def named_folders(cfg: DictConfig) -> list[Path]:
    """Return the folders of the runs that `run` means: those of a sweep whose names begin so, or the one of that name.

    The sweep is that of `sweep_folders`. What others have trained is not changed by a name that happens to begin alike.

    Raises:
        UserError: `run` is not set, or means no run.
    """
    if not cfg.run:
        raise UserError("run is not set: add run=<a run's name, or its beginning>")
    folders, others = sweep_folders(cfg), _all_folders(Path(cfg.paths.runs))
    if found := [path for path in folders if path.name.startswith(cfg.run) and path.exists()]:
        return found
    if found := [path for path in others if path.name == cfg.run]:
        return found
    names = ", ".join(sorted({path.name for path in folders + others}))
    raise UserError(
        f"run={cfg.run}: no run has this name, and none of the sweep a name that begins so; the runs are {names}"
    )


def _all_folders(runs: Path) -> list[Path]:
    return sorted(path.parent for path in runs.glob(f"*/{RUN}"))
