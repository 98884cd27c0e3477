"""Bytes by key: what a datastore needs of the place that holds them, and the simplest such place, a folder.

What is written appears whole or not at all, and has the SHA-256 it was sent for. `create` never replaces what another
process created: of many that create the same key, one succeeds.
"""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from plant_pathology.core.errors import UserError

TRANSFERS = 8  # at a time


class Objects(Protocol):
    """What a datastore needs of a place for its bytes. Every method raises UserError where the place fails."""

    def size(self, key: str) -> int | None:
        """Bytes under `key`; None when there is no such key."""

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """`size` of many keys."""

    def fetch(self, key: str, target: BinaryIO) -> None:
        """Write the bytes under `key` to `target`. Raises: FileNotFoundError."""

    def put(self, key: str, source: Path, sha256: str) -> None:
        """Store a file. Raises: UserError when its content is not that of `sha256`."""

    def create(self, key: str, content: bytes) -> bool:
        """Store `content` unless the key exists; False when it does. No two callers may send the same content: a
        place whose answer was lost on the way knows by it that what exists is the caller's own."""

    def replace(self, key: str, content: bytes) -> None:
        """Store `content` in place of what the key holds."""

    def delete(self, key: str) -> None:
        """Delete what is under `key`, if anything is."""

    def modified(self, key: str) -> float | None:
        """When `key` was written, in seconds by the place's own clock; None when there is no such key."""

    def keys(self, prefix: str) -> list[str]:
        """All keys below the folder `prefix`."""


class Hashing:
    """A binary sink that hashes what it passes on."""

    def __init__(self, target: BinaryIO):
        self._target, self._hash = target, hashlib.sha256()

    def write(self, block: bytes) -> int:
        self._hash.update(block)
        return self._target.write(block)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class Nowhere(io.RawIOBase):
    """A binary sink that keeps nothing."""

    def write(self, block: bytes) -> int:
        return len(block)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def truncate(self, size: int | None = None) -> int:
        return 0


@dataclass(frozen=True)
class FolderObjects:
    """A folder on a local or network disk, made when first written to."""

    root: Path

    def __str__(self) -> str:
        return f"file://{self.root}"

    def path(self, key: str) -> Path:
        return self.root / key

    def size(self, key: str) -> int | None:
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        return list(map(self.size, keys))

    def fetch(self, key: str, target: BinaryIO) -> None:
        with self.path(key).open("rb") as file:
            shutil.copyfileobj(file, target, 1 << 20)

    def put(self, key: str, source: Path, sha256: str) -> None:
        with self.whole(key) as file, source.open("rb") as content:
            shutil.copyfileobj(content, copied := Hashing(file), 1 << 20)
            if copied.hexdigest() != sha256:
                raise UserError(f"{source} changed while it was pushed: push again")

    @contextmanager
    def whole(self, key: str) -> Iterator[BinaryIO]:
        """Yield a file that stands under `key` when the block succeeds, and vanishes when it fails."""
        with self._incoming(key) as file:
            yield file
            _finish(file)
            os.replace(file.name, self.path(key))
            _sync(self.path(key).parent)

    def create(self, key: str, content: bytes) -> bool:
        with self._incoming(key) as file:
            file.write(content)
            _finish(file)
            try:
                # Unlike a rename, a link never replaces what is there.
                os.link(file.name, self.path(key))
            except FileExistsError:
                return False
            _sync(self.path(key).parent)
        return True

    def replace(self, key: str, content: bytes) -> None:
        with self.whole(key) as file:
            file.write(content)

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def modified(self, key: str) -> float | None:
        try:
            return self.path(key).stat().st_mtime
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.path(prefix).rglob("*") if path.is_file()]

    @contextmanager
    def _incoming(self, key: str) -> Iterator[BinaryIO]:
        """A temporary file on the store's own disk, below no prefix that is listed; gone after the block."""
        incoming = self.root / "incoming"
        for folder in (incoming, self.path(key).parent):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=incoming, delete=False) as file:
            try:
                yield file
            except OSError as error:
                # Writing to an open file fails without its name.
                error.filename = error.filename or str(self.path(key))
                raise
            finally:
                Path(file.name).unlink(missing_ok=True)


def _finish(file: BinaryIO) -> None:
    """Read-only for everyone, and on the disk, so that no crash leaves a name without its bytes."""
    file.flush()
    os.fchmod(file.fileno(), 0o444)
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
