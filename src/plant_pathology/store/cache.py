"""Cache downloaded objects in a folder of bounded size, which all runs on a machine share.

The objects that were not used for the longest time are deleted first (LRU).
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from plant_pathology.core.disk import require_locks, require_space
from plant_pathology.store.folder import FolderBackend

DAY_S = 24 * 3600


@dataclass(frozen=True)
class Cache:
    """Objects named by their SHA-256, so that stores share equal objects.

    Args:
        limit: bytes of all objects together; a single larger object is still kept.
    """

    root: Path
    limit: float

    def open(self, key: str, is_whole: Callable[[Path], bool], size: int, fetch: Callable[[IO[bytes]], None]) -> Path:
        """Return the local, read-only path of an object; download it with `fetch`, if it is missing or not whole.

        Of many processes that open the same object at once, one downloads it and the others wait.

        Args:
            is_whole: whether a file that exists has the right bytes.
            size: bytes to make room for.
        """
        folder = FolderBackend(self.root)
        path = folder.local_path(key)
        if not (path.exists() and is_whole(path)):
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            require_locks(locks, "store.cache")
            with FileLock(locks / path.name):
                if not (path.exists() and is_whole(path)):
                    self._make_room(size)
                    require_space(self.root, size, "a file of the store", "store.cache")
                    with folder.atomic_writer(key) as target:
                        fetch(target)
        # When it was used last, for `_make_room`; others may share a cache that they cannot write to.
        with suppress(OSError):
            os.utime(path)
        return path

    def _make_room(self, size: int) -> None:
        for leftover in (self.root / "incoming").glob("*"):
            if time.time() - leftover.stat().st_mtime > DAY_S:
                leftover.unlink(missing_ok=True)
        # On POSIX systems the bytes of a deleted file stay until the last process closes it.
        entries = [(path, path.stat()) for path in (self.root / "objects").glob("*")]
        excess = sum(stat.st_size for _, stat in entries) + size - self.limit
        for path, stat in sorted(entries, key=lambda entry: entry[1].st_mtime):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            # Another process may be waiting for this lock: at worst, two download the same object.
            (self.root / "locks" / path.name).unlink(missing_ok=True)
            excess -= stat.st_size
