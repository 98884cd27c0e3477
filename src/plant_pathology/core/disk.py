"""Probe what the disk and the system promise, before a stage relies on it: space, locks, links, memory, open files.

Without these checks the same lack shows late and in other words: a stage fails after hours, a lock waits for ever, a
process that loads images dies without a message. The answers about locks and links are kept, since they cannot change
while a command runs.
"""

import errno
import functools
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

from plant_pathology.core.errors import UserError

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps what processes share

# What disks answer to a call that they do not know; Linux says EPERM for links that a disk cannot hold.
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}


def disk_space(folder: Path) -> tuple[float, float]:
    """Return the bytes of a folder's disk, and those that are free; infinite where the disk does not say.

    Some network disks give zeros.
    """
    usage = shutil.disk_usage(folder)
    return (usage.total, usage.free) if usage.total else (math.inf, math.inf)


def require_space(folder: Path, size: float, purpose: str, key: str = "paths.root") -> None:
    """Check that the disk of a folder, which need not exist yet, has room.

    Quotas are not seen here: a disk that has room may still refuse to be written to (EDQUOT).

    Args:
        size: bytes that will be written.
        purpose: what is written, such as "the shards".
        key: of the config, which names the folder or one above it.

    Raises:
        UserError: less is free.
    """
    _, free = disk_space(_existing(folder))
    if free < size:
        raise UserError(
            f"{folder.absolute()}: {purpose} will take {_amount(size)}, and {_amount(free)} are free on that disk: make"
            f" room there, or set {key} to a folder of another disk"
        )


def require_locks(folder: Path, key: str = "paths.root") -> None:
    """Check that files in a folder, which need not exist yet, can be locked, as some network disks do not allow.

    Args:
        key: of the config, which names the folder or one above it.

    Raises:
        UserError: they cannot.
    """
    if reason := _no_locks(_existing(folder)):
        raise UserError(
            f"{folder.absolute()}: this disk has no locks ({reason}), so two commands at once could damage each"
            f" other's files: set {key} to a folder of a local disk, or mount this disk with locks (NFS that only"
            " this machine uses: the mount option local_lock=flock)"
        )


def supports_hard_links(folder: Path) -> bool:
    """Return whether a file in a folder, which need not exist yet, can have two names."""
    return _has_hard_links(_existing(folder))


def require_shared_memory(size: float, purpose: str) -> None:
    """Check that there is room in the memory that processes share, of which a container often has 64 MB only.

    Systems other than Linux keep no such limit: do nothing there.

    Args:
        size: bytes that will be shared at the same time.
        purpose: the setting that shares them, such as "data.workers=4".

    Raises:
        UserError: less is free, or there is none.
    """
    if sys.platform != "linux":
        return
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    if free < size:
        raise UserError(
            f"{purpose} takes up to {_amount(size)} of shared memory, and {SHARED_MEMORY} has {_amount(free)} free:"
            f" start the container with --shm-size={int(size / 1e9) + 1}g or --ipc=host, or set data.workers=0"
        )


def raise_open_files_limit(count: int, purpose: str) -> None:
    """Let this process, and those that it starts, have so many files open at once; never lower the limit.

    Args:
        count: files in all, those that are open already among them.
        purpose: the setting that opens them, such as "hydra.launcher.workers=64".

    Raises:
        UserError: the system does not allow so many.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    except (ValueError, OSError):  # above the hard limit or, on macOS, above the kernel's
        raise UserError(
            f"{purpose} takes up to {count} open files, and this system allows {hard}: raise nofile in"
            f" /etc/security/limits.conf (a container: --ulimit nofile={count}), or choose a smaller number"
        ) from None


def _existing(folder: Path) -> Path:
    """Return a folder if it exists, else the nearest one above it that does."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


@functools.cache
def _no_locks(folder: Path) -> str:
    """Return why files in a folder cannot be locked; an empty text if they can."""
    if sys.platform == "win32":
        return ""
    import fcntl

    with tempfile.TemporaryFile(prefix=".locks-", dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return os.strerror(error.errno)
    return ""


@functools.cache
def _has_hard_links(folder: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix=".links-", dir=folder) as work:
        first = Path(work, "first")
        first.touch()
        try:
            os.link(first, Path(work, "second"))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
    return True


def _amount(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
