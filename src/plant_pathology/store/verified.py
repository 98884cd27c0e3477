"""Check a local file against its SHA-256 when a process opens it for the first time.

A disk returns other bits than were written without an error, and whatever trains on them says nothing. Reading a file
once more costs little, because its bytes then are in memory for whoever opens it.
"""

from pathlib import Path

from plant_pathology.core.hashes import file_hash

_verified: set[tuple[str, int, int, str]] = set()


def has_hash(path: Path, sha256: str) -> bool:
    """Return whether a file has this SHA-256; read it once per process, and again when it was replaced."""
    state = path.stat()
    # Not the modification time: the cache changes it at every use.
    entry = (str(path), state.st_ino, state.st_size, sha256)
    if entry not in _verified and file_hash(path) == sha256:
        _verified.add(entry)
    return entry in _verified
