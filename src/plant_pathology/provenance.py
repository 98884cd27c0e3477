"""Where the files on disk come from: the commit, and what dvc.lock recorded of the stages that made them."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from plant_pathology.stage import StageError

# What the pipeline itself writes beside the code; it does not make a commit dirty.
WRITTEN = ("dvc.lock",)


def commit(root: Path) -> dict[str, Any]:
    """The commit checked out, and the tracked or new files that differ from it.

    Returns:
        {"commit": hash or None outside git, "uncommitted": [paths]}.
    """
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "uncommitted": []}
    changed = [line[3:] for line in (_git(root, "status", "--porcelain", "--untracked-files=all") or "").splitlines()]
    return {"commit": head.strip(), "uncommitted": sorted(set(changed) - set(WRITTEN))}


def locked_outputs(root: Path, stages: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The hashes that dvc.lock holds for what the stages wrote: {stage: {path: hash}}; {} where no pipeline ran.

    Raises:
        StageError: dvc.lock is not a lock file.
    """
    path = root / "dvc.lock"
    if not path.exists():
        return {}
    try:
        locked = yaml.safe_load(path.read_text())["stages"]
        return {
            stage: {out["path"]: out.get("md5") or out["hash"] for out in locked[stage].get("outs", [])}
            for stage in stages
            if stage in locked
        }
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise StageError(
            f"{path} is damaged ({error!r}): restore it with git, or delete it and run `dvc repro`"
        ) from None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
