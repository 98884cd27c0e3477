"""Hold the locks of folders, as another command would that works on them."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_held: list[FileLock] = []


def locked(name: str) -> Callable[[Path], None]:
    """Return a fault: another command works on a folder until `release`."""

    def make(folder: Path) -> None:
        (folder / name).mkdir(exist_ok=True)
        lock = FileLock(folder / name / ".lock")
        lock.acquire()
        _held.append(lock)

    return make


def release() -> None:
    """Release all locks that are held."""
    while _held:
        _held.pop().release()
