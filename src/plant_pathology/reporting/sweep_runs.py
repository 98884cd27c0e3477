"""Read the sweep's runs, and the data version that they were trained on."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.bundle import SELECT
from plant_pathology.core.errors import UserError
from plant_pathology.core.sealed import check_hashes, trusted
from plant_pathology.runs.folder import METRICS, RESULT, RUN
from plant_pathology.runs.status import Status, status_of
from plant_pathology.selection.axes import FOLD, varying_keys
from plant_pathology.store.connect import open_version
from plant_pathology.store.version import Version
from plant_pathology.sweeps.index import sweep_folders


@dataclass(frozen=True)
class SweepRuns:
    """The runs of a sweep.

    Args:
        statuses: one per run: those on the leaderboard in its order, then the others by name.
        identities: run.json by run, for the runs that have begun.
    """

    statuses: list[Status]
    identities: dict[str, dict[str, Any]]


def read_runs(cfg: DictConfig, board: Sequence[str]) -> SweepRuns:
    """Read the runs of the last sweep, and those on the leaderboard.

    Args:
        board: names of the runs on the leaderboard.

    Raises:
        UserError: a run on the leaderboard does not exist.
        DamagedError: a file of a run that the page shows is not what the run wrote.
    """
    folders = {folder.name: folder for folder in sweep_folders(cfg)}
    folders |= {name: Path(cfg.paths.runs) / name for name in board}
    if missing := [name for name in board if not (folders[name] / RUN).exists()]:
        raise UserError(f"{cfg.paths.runs} has no {missing[0]}, which is on the leaderboard: {SELECT}")
    order = [*board, *(name for name in sorted(folders) if name not in board)]
    identities = {name: identity_of(folders[name]) for name in order if (folders[name] / RUN).exists()}
    return SweepRuns([status_of(folders[name]) for name in order], identities)


def identity_of(folder: Path) -> dict[str, Any]:
    """Return the content of run.json, after checking the files that a finished run vouches for and the page shows.

    Raises:
        DamagedError: one of them is not what the run wrote.
    """
    remedy = f"delete {folder} and start the sweep again"
    if (folder / RESULT).exists():
        check_hashes(folder, {METRICS: trusted(folder / RESULT, remedy)["files"][METRICS]}, remedy)
    return trusted(folder / RUN, remedy)


def data_version(cfg: DictConfig, identity: dict[str, Any]) -> Version:
    """Open the version that a run was trained on; it need not be the one that was pushed last.

    Args:
        identity: the run's run.json.

    Raises:
        UserError: the store has no version of that name, or it has other content.
    """
    ref = identity["data_ref"]
    pinned = copy.deepcopy(cfg)
    pinned.data.ref = ref
    version = open_version(pinned)
    if version.sha256 != identity["data"]:
        raise UserError(f"{cfg.store.uri} holds another {ref} than the one the runs were trained on: set store.uri")
    return version


def identity_rows(identities: dict[str, dict[str, Any]], settings: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per run: its name, the hashes of data and code, and the settings that vary.

    Args:
        identities: run.json by run.
        settings: one row per run, one column per config key.
    """
    keys = [*varying_keys(settings), *([FOLD] if settings[FOLD].nunique() > 1 else [])]
    return [
        {
            "run": run,
            "code": identity["code"],
            "data": identity["data"],
            "ref": identity["data_ref"],
            "settings": {key: settings.loc[run, key] for key in keys},
        }
        for run, identity in identities.items()
    ]


def shared_settings(settings: pd.DataFrame) -> dict[str, Any]:
    """Return the settings that all runs share, without the competition's, which have a file of their own."""
    varying = {*varying_keys(settings), FOLD}
    shared = [key for key in settings if key not in varying and not key.startswith("competition.")]
    return {key: settings[key].iloc[0] for key in shared}
