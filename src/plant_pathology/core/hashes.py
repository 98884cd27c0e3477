"""Hash files, folders, bytes and JSON with SHA-256; and write JSON with its own hash, so that damage is found."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import visible_files

SUMS = "SHA256SUMS"  # of a folder that a stage wrote


def bytes_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_hash(content: dict) -> str:
    """Return the SHA-256 of canonical JSON, which is the same for equal content on any machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path, pattern: str = "*") -> str:
    """Return one SHA-256 of the names and bytes of the files below a folder whose names match, but hidden ones."""
    return content_hash(
        {path.relative_to(folder).as_posix(): file_hash(path) for path in visible_files(folder, pattern)}
    )


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of all files below a folder into its file SHA256SUMS, which `sha256sum -c` can check."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{file_hash(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(path: Path) -> dict[str, str]:
    """Return {relative path: SHA-256} of a file that `write_sums` wrote.

    Raises:
        UserError: the file is damaged.
    """
    lines = path.read_bytes().decode(errors="replace").splitlines()
    sums = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    if (
        not lines
        or len(sums) != len(lines)
        or not all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in sums.values())
    ):
        raise UserError(f"{path} is damaged: run prepare again")
    return sums


def sealed(content: dict[str, Any]) -> bytes:
    """Return a manifest as JSON that contains its own hash."""
    return (json.dumps(content | {"seal": content_hash(content)}, indent=1) + "\n").encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """Parse what `sealed` returned.

    Raises:
        ValueError, TypeError, KeyError: the bytes are not those that were written.
    """
    manifest = json.loads(content)
    if manifest.pop("seal") != content_hash(manifest):
        raise ValueError("it does not match its own seal")
    return manifest
