"""Look before any run is launched whether the weights that the runs start from can be had where they train.

What can be known depends on the launcher. Runs on this machine, and the nodes of a Slurm cluster, which share its
disks, need them in the cache here. Rented machines and Kaggle's sessions have the internet, but no files of this
machine: there it must be a name of timm's that has weights, or a run that is in the store.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.watched import tell_unwatched
from plant_pathology.runs.folder import RESULT
from plant_pathology.runs.run import HUB, LOCAL, Run
from plant_pathology.runs.sync import RunSync


def fetch_all_weights(runs: Iterable[Run]) -> None:
    """Download what runs need to know of their networks and this machine lacks, once, before any of them is launched.

    Raises:
        UserError: a network has no pretrained weights, these or its config.json cannot be downloaded, or own weights
            were trained on what a run validates with.
    """
    runs = list(runs)
    _require_unseen(runs)
    _tell_unwatched(runs)
    described = {run.cfg.model.name for run in runs if run.cfg.model.name.startswith((LOCAL, HUB))}
    if (pretrained := _pretrained(runs)) or described:
        # Imported here, because timm takes seconds, which a sweep from scratch need not wait for.
        from plant_pathology.training.weights import fetch_config, fetch_weights

        for name in sorted(described):
            fetch_config(name)
        for name in pretrained:
            fetch_weights(name)


def require_weights_elsewhere(runs: Iterable[Run], launcher: str, sync: RunSync | None) -> None:
    """Check that runs which train on other machines, with the internet and without our files, find their weights.

    Args:
        launcher: its name, for the error.
        sync: the store from which those machines fetch runs; None where they reach none.

    Raises:
        UserError: a network has no weights, they are files of this machine, or own weights were trained on what a run
            validates with.
    """
    runs = list(runs)
    where = f"the machines of hydra/launcher={launcher}"
    for named in sorted({run.cfg.model.init_from for run in runs if run.cfg.model.init_from}):
        if sync is None:
            raise UserError(f"model.init_from={named}: {where} cannot read it: train this sweep with another launcher")
        if Path(named).name != named or not sync.has(named, RESULT):
            raise UserError(
                f"model.init_from={named}: {where} cannot read it: name a finished run that is in the store, as runs"
                " trained with store.runs=true are"
            )
    _require_unseen(runs)
    for name in sorted({run.cfg.model.name for run in runs if run.cfg.model.name.startswith(LOCAL)}):
        raise UserError(f"model={name}: {where} have no such folder: name a model of timm, or hf-hub:<repository>")
    if names := _pretrained(runs):
        from plant_pathology.training.weights import require_weights

        for name in names:
            require_weights(name)


def recorded_origin(run: Run) -> dict[str, Any]:
    """Return what result.json is to say of the weights that a run starts from; nothing for timm's own, or for none."""
    if not _may_have_seen(run):
        return {}
    from plant_pathology.training.seen_images import ORIGIN, origin_of

    return {ORIGIN: origin_of(run)}


def _require_unseen(runs: list[Run]) -> None:
    if started := [run for run in runs if _may_have_seen(run)]:
        from plant_pathology.training.seen_images import require_unseen  # here, because pandas takes half a second

        for run in started:
            require_unseen(run)


def _tell_unwatched(runs: list[Run]) -> None:
    named = {("model.init_from", each) for run in runs if (each := run.cfg.model.init_from) and Path(each).exists()}
    named |= {("model", each.removeprefix(LOCAL)) for run in runs if (each := run.cfg.model.name).startswith(LOCAL)}
    for key, path in sorted(named):
        tell_unwatched(runs[0].cfg, key, Path(path))


def _may_have_seen(run: Run) -> bool:
    """Return whether a run starts from weights of a file, run, folder or repository, not from timm's own."""
    model = run.cfg.model
    kept = model.pretrained and model.name.startswith((LOCAL, HUB)) and not model.name.startswith(f"{HUB}timm/")
    return bool(model.init_from or kept)


def _pretrained(runs: Iterable[Run]) -> list[str]:
    return sorted({run.cfg.model.name for run in runs if run.cfg.model.pretrained and not run.cfg.model.init_from})
