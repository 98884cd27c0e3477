"""Find the weights that `model.init_from` means.

Where it names a run, each fold has weights of its own: a run starts from the sibling of the named one that left out the
same fold. Siblings are finished runs in the same folder with the same settings, data and code but for the fold.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import content_hash, file_hash
from plant_pathology.core.sealed import read_sealed
from plant_pathology.runs.folder import BEST, HASH_DIGITS, RESULT, fold_suffix, is_finished, without_fold
from plant_pathology.runs.sync import RunSync, is_output, sync_of


def initial_weights(cfg: DictConfig) -> Path | None:
    """Return the file that `model.init_from` means: a file, or the weights of a finished run or of its sibling.

    With store.runs=true a run that is not here is fetched from the store.

    Raises:
        UserError: there is no such file, and no such finished run.
    """
    if not (named := cfg.model.init_from):
        return None
    if Path(named).is_file():
        return Path(named)
    sync = sync_of(cfg) if Path(named).name == named else None
    here = Path(cfg.paths.runs) / named
    if is_finished(elsewhere := Path(named)) and not is_finished(here):
        return _of_fold(elsewhere, cfg, None) / BEST
    if _fetched(here, sync):
        return _of_fold(here, cfg, sync) / BEST
    store = f", nor is there one of that name in {cfg.store.uri}" if sync else ""
    raise UserError(f"model.init_from={named} is no file, and {here} no finished run{store}")


def settings_of(weights: Path) -> str:
    """Return what only siblings share: a run's name without fold, and a hash of its settings, data and code.

    Weights that are no run's have the hash of their file in its place.
    """
    result = read_sealed(weights.parent / RESULT) if weights.name == BEST else ""
    if isinstance(result, str):
        return file_hash(weights)
    config = without_fold(result["config"])
    shared = content_hash({"config": config, "data": result["data"], "code": result["code"]})
    return f"{_shared_name(result)}-{shared[:HASH_DIGITS]}"


def _of_fold(folder: Path, cfg: DictConfig, sync: RunSync | None) -> Path:
    """Return the sibling of a run that left out the fold of a config; without one, or for other images, the run."""
    result = read_sealed(folder / RESULT)
    if isinstance(result, str) or result["config"]["competition"]["name"] != cfg.competition.name:
        return folder
    stem = _shared_name(result) + fold_suffix(cfg.data.fold)
    siblings = (folder.parent / name for name in _names(folder.parent, sync) if _stem(name) == stem)
    settings = settings_of(folder / BEST)
    return next((each for each in siblings if _fetched(each, sync) and settings_of(each / BEST) == settings), folder)


def _names(runs: Path, sync: RunSync | None) -> Iterator[str]:
    """Yield the names of runs in a folder; after them those in the store, which is asked only if no other one fits."""
    yield from sorted(path.parent.name for path in runs.glob(f"*/{RESULT}"))
    if sync:
        yield from sync.names()


def _shared_name(result: dict[str, Any]) -> str:
    """Return a run's name without fold and hash."""
    return _stem(result["run"]).removesuffix(fold_suffix(result["config"]["data"]["fold"]))


def _stem(name: str) -> str:
    """Return the name of a run's folder without its hash."""
    return name[: -HASH_DIGITS - 1]


def _fetched(folder: Path, sync: RunSync | None) -> bool:
    """Return whether a run is finished, after downloading it if it is in the store alone."""
    if sync and not is_finished(folder) and sync.has(folder.name, RESULT):
        sync.pull(folder.name, is_output)
    return is_finished(folder)
