"""Hash files, folders, bytes and JSON with SHA-256; and write JSON with its own hash, so that damage is found."""

import hashlib
import json
from pathlib import Path
from typing import Any


def bytes_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_hash(content: dict) -> str:
    """Return the SHA-256 of canonical JSON, which is the same for equal content on any machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """Return one SHA-256 of the names and bytes of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return content_hash({path.relative_to(folder).as_posix(): file_hash(path) for path in files})


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
