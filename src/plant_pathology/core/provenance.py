"""Read where files come from: the git commit, and the hashes in dvc.lock of the stages that wrote them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from plant_pathology.core.errors import UserError

# Files that the pipeline writes beside the code: a change in them does not make the commit dirty.
WRITTEN = ("dvc.lock",)


def commit(root: Path) -> dict[str, Any]:
    """Return the commit that is checked out, and the files of a folder that are new or differ from it.

    Args:
        root: the checkout; it may be a folder of a larger repository.

    Returns:
        {"commit": hash or None outside git, "uncommitted": [paths below root]}.
    """
    told = _git(root, "rev-parse", "HEAD", "--show-prefix")
    if told is None:
        return {"commit": None, "uncommitted": []}
    head, prefix = told.splitlines()
    # With -z git writes names as they are, without quotes; a file that was renamed is deleted and new.
    told = _git(root, "status", "--porcelain", "--untracked-files=all", "--no-renames", "-z", "--", ".") or ""
    changed = [entry[3:].removeprefix(prefix) for entry in told.split("\0") if entry]
    return {"commit": head, "uncommitted": sorted(set(changed) - set(WRITTEN))}


def locked_outputs(root: Path, stages: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return the hashes in dvc.lock of the stages' outputs: {stage: {path: hash}}.

    Empty where no pipeline ran, or where the files on disk are not those that dvc.lock describes.

    Raises:
        UserError: dvc.lock cannot be parsed.
    """
    locked = locked_stages(root)
    if not locked or not _describes_disk(root, stages):
        return {}
    try:
        return {stage: {out["path"]: out["md5"] for out in locked[stage]["outs"]} for stage in stages}
    except (KeyError, TypeError) as error:
        raise _damaged(root, error) from None


def locked_stages(root: Path) -> dict[str, Any]:
    """Return the entries of dvc.lock by the stage's name; none where no pipeline ran.

    Raises:
        UserError: dvc.lock cannot be parsed.
    """
    path = root / "dvc.lock"
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] if path.exists() else {}
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise _damaged(root, error) from None


def _damaged(root: Path, error: Exception) -> UserError:
    return UserError(
        f"{root / 'dvc.lock'} is damaged ({error!r}): restore it with git, or delete it and run `dvc repro`"
    )


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
