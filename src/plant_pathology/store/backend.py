"""Define what a store needs of its backend: bytes by key, written atomically.

A new backend is one new file with a class that has these methods (examples: folder.py, s3.py), and one branch in
connect.py that makes it from `store.uri`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

TRANSFERS = 8  # at a time


class Writer(Protocol):
    """A file, or anything else that bytes can be written to."""

    def write(self, block: bytes, /) -> int: ...


class Backend(Protocol):
    """Store bytes by key. Every method raises UserError when the backend fails.

    Writes are atomic: a key has all of its bytes or does not exist. `str()` of a backend is its URI, for messages; it
    contains no secrets.
    """

    @property
    def is_local(self) -> bool:
        """Return whether the bytes are files of this machine, or of a disk that it mounts."""

    def size(self, key: str) -> int | None:
        """Return the number of bytes of `key`; None when it does not exist."""

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many keys."""

    def local_path(self, key: str) -> Path | None:
        """Return the file that holds the bytes of `key`; None when this backend has no local files.

        A store whose backend returns None needs a cache.
        """

    def fetch(self, key: str, target: Writer) -> None:
        """Write the bytes of `key` to `target`.

        Raises:
            FileNotFoundError: the key does not exist.
        """

    def require_space(self, size: int) -> None:
        """Raise UserError if it is known that the backend has no room for so many bytes."""

    def put(self, key: str, source: Path, sha256: str) -> None:
        """Store a file.

        Raises:
            UserError: the file does not have this SHA-256.
        """

    def create(self, key: str, content: bytes) -> bool:
        """Store `content` if the key does not exist yet; return whether it was stored.

        Of many processes that create the same key, exactly one succeeds. Their contents must differ: if the reply is
        lost, the retry compares the stored bytes with its own and reports success.
        """

    def replace(self, key: str, content: bytes) -> None:
        """Store `content`, whether or not the key exists."""

    def delete(self, key: str) -> None:
        """Delete `key` if it exists."""

    def modified(self, key: str) -> float | None:
        """Return when `key` was written, in seconds of the backend's clock; None when it does not exist."""

    def keys(self, prefix: str) -> list[str]:
        """List all keys below the folder `prefix`."""


class HashingWriter:
    """Compute the SHA-256 of what is written, and pass it on to `target`, if any."""

    def __init__(self, target: Writer | None):
        self._target, self._hash = target, hashlib.sha256()

    def write(self, block: bytes, /) -> int:
        self._hash.update(block)
        return self._target.write(block) if self._target else len(block)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
