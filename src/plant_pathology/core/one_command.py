"""Let only one command at a time work on a folder."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from plant_pathology.core.disk import require_locks
from plant_pathology.core.errors import BusyError

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # of a folder, or its disk, that this user may only read
LOCK = ".lock"  # in each folder; the system releases it when a process dies, however it dies


@contextmanager
def one_command(writes: Sequence[Path], reads: Sequence[Path] = ()) -> Iterator[None]:
    """Hold the locks of folders: no other command reads or writes there meanwhile.

    Args:
        writes: folders that are written; they are made where they do not exist.
        reads: folders that are only read, if they exist.

    Raises:
        BusyError: another command holds one of them.
        UserError: a disk has no locks.
    """
    for folder in writes:
        folder.mkdir(parents=True, exist_ok=True)
        require_locks(folder)
    with ExitStack() as held:
        for folder in sorted({*writes, *(each for each in reads if each.is_dir())}):
            try:
                held.enter_context(FileLock(folder / LOCK, timeout=0))
            except Timeout:
                raise BusyError(
                    f"{folder}: another command works on this folder: wait until it ends, and start again"
                ) from None
            except OSError as error:
                if folder in writes or error.errno not in READ_ONLY:
                    raise
        yield
