"""A bounded folder of stored objects: fetched once for all runs on a machine, those used longest ago go first."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from plant_pathology.store.folder import FolderObjects

DAY = 24 * 3600  # seconds


@dataclass(frozen=True)
class Cache:
    """Objects named by their content, so what stores share is here once.

    Args:
        limit: bytes that the objects take together; a single larger one is kept alone.
    """

    root: Path
    limit: float

    def open(self, key: str, size: int, fetch: Callable[[BinaryIO], None]) -> Path:
        """The local, read-only path of an object; `fetch` writes and checks it where it is not here yet.

        Of many processes that open the same object at once, one fetches and the others wait for it.
        """
        folder = FolderObjects(self.root)
        path = folder.path(key)
        if folder.size(key) != size:
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / path.name):
                if folder.size(key) != size:
                    self._make_room(size)
                    with folder.whole(key) as target:
                        fetch(target)
        os.utime(path)
        return path

    def _make_room(self, size: int) -> None:
        for leftover in (self.root / "incoming").glob("*"):
            if time.time() - leftover.stat().st_mtime > DAY:
                leftover.unlink(missing_ok=True)
        # A run that has an object open keeps it: on POSIX systems its bytes stay until the last one closes it.
        entries = [(path, path.stat()) for path in (self.root / "objects").glob("*")]
        excess = sum(stat.st_size for _, stat in entries) + size - self.limit
        for path, stat in sorted(entries, key=lambda entry: entry[1].st_mtime):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            # Somebody may just wait for it: then, at worst, two fetch the same bytes.
            (self.root / "locks" / path.name).unlink(missing_ok=True)
            excess -= stat.st_size
