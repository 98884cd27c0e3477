"""Cache downloaded objects in a folder of bounded size, which all runs on a machine share.

The objects that were not used for the longest time are deleted first (LRU).
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

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

    def open(self, key: str, size: int, fetch: Callable[[IO[bytes]], None]) -> Path:
        """Return the local, read-only path of an object; download it with `fetch`, which also checks it, if missing.

        Of many processes that open the same object at once, one downloads it and the others wait.
        """
        folder = FolderBackend(self.root)
        path = folder.local_path(key)
        if folder.size(key) != size:
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / path.name):
                if folder.size(key) != size:
                    self._make_room(size)
                    with folder.atomic_writer(key) as target:
                        fetch(target)
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
