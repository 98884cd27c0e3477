"""Say within `dvc repro` which files it does not watch, because a key names them outside the folders of dvc.yaml."""

import os
from pathlib import Path

from omegaconf import DictConfig

STAGE = "DVC_STAGE"  # environment variable that DVC sets for a stage's command


def tell_unwatched(cfg: DictConfig, key: str, path: Path) -> None:
    """Print a line where DVC would not repeat the stage that runs, although a file or folder changed.

    Args:
        cfg: has the folders that DVC watches: paths.extra, paths.raw and paths.runs.
        key: that names the path.
    """
    folders = [Path(folder).resolve() for folder in (cfg.paths.extra, cfg.paths.raw, cfg.paths.runs)]
    if (stage := os.environ.get(STAGE)) and not any(path.resolve().is_relative_to(folder) for folder in folders):
        print(
            f"{key}={path}: DVC does not watch it: put it below {cfg.paths.extra}, or type `dvc repro --force"
            f" --single-item {stage}` when it changes",
            flush=True,
        )
