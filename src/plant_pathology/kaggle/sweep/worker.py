"""Train the runs of one session, on Kaggle's machine: the same code as a sweep on this one, with a limit of time.

python -m plant_pathology.kaggle.sweep.worker <plan.json>

The plan:
    runs: each run's name and config, the longest last, because the local launcher begins at the end.
    store, code, runs_folder: folders here of the datastore, the competition's own code, and the runs.
    cards: runs at once.
    seconds: after which all runs save checkpoints and end.

It ends with 0 whatever becomes of the runs: their folders say it, and of a kernel that succeeds the output is kept.
"""

import json
import os
import signal
import sys
from pathlib import Path
from threading import Timer
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plant_pathology.runs.run import run_of
from plant_pathology.sweeps.local import train_all


def config_here(content: dict[str, Any], plan: dict[str, Any]) -> DictConfig:
    """Return a run's config with the folders of this machine."""
    cfg = OmegaConf.create(content)
    cfg.paths.runs, cfg.paths.code = plan["runs_folder"], plan["code"]
    cfg.store.uri, cfg.store.runs = f"file://{plan['store']}", False
    cfg.hydra = {}  # which the local launcher takes out
    return cfg


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text(encoding="utf-8"))
    configs = [config_here(run["config"], plan) for run in plan["runs"]]
    for run, cfg in zip(plan["runs"], configs, strict=True):
        if (name := run_of(cfg).name) != run["name"]:
            sys.exit(f"error: {run['name']} is called {name} here: its code or data arrived changed")
    clock = Timer(plan["seconds"], os.kill, (os.getpid(), signal.SIGTERM))
    clock.daemon = True
    clock.start()
    try:
        train_all(configs, plan["cards"])
    except SystemExit:
        print("the session's time is over: the runs in progress have saved checkpoints", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
