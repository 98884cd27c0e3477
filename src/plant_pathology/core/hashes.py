"""SHA-256 of files, of bytes and of JSON; and JSON that tells when it is not what was written."""

import hashlib
import json
from pathlib import Path
from typing import Any


def bytes_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_hash(content: dict) -> str:
    """SHA-256 of canonical JSON: the same for equal content on any machine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """One hash for the names and bytes of all files in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return content_hash({path.relative_to(folder).as_posix(): file_hash(path) for path in files})


def sealed(content: dict[str, Any]) -> bytes:
    """A manifest as JSON that tells when a byte of it is not what was written."""
    return (json.dumps(content | {"seal": content_hash(content)}, indent=1) + "\n").encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """Raises: ValueError, TypeError or KeyError when that is not what `sealed` gave."""
    manifest = json.loads(content)
    if manifest.pop("seal") != content_hash(manifest):
        raise ValueError("it does not match its own seal")
    return manifest
