"""Where the files on disk come from: the commit, and what dvc.lock recorded of the stages that made them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from plant_pathology.core.errors import UserError

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
    """The hashes that dvc.lock holds for what the stages wrote: {stage: {path: hash}}.

    Empty where no pipeline ran, or where what is on disk is not what dvc.lock describes.

    Raises:
        UserError: dvc.lock is not a lock file.
    """
    path = root / "dvc.lock"
    if not path.exists() or not _describes_disk(root, stages):
        return {}
    try:
        locked = yaml.safe_load(path.read_text())["stages"]
        return {stage: {out["path"]: out["md5"] for out in locked[stage]["outs"]} for stage in stages}
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}): restore it with git, or delete it and run `dvc repro`"
        ) from None


def _describes_disk(root: Path, stages: tuple[str, ...]) -> bool:
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json", *stages], cwd=root, capture_output=True, text=True
    )
    return status.returncode == 0 and json.loads(status.stdout) == {}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
