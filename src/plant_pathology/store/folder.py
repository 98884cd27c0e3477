"""Store bytes in a folder on a local or network disk."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from plant_pathology.core.disk import require_space
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import naming
from plant_pathology.store.backend import HashingWriter, Writer

BLOCK = 1 << 20  # bytes copied at a time
# How disks say that they have no hard links: exFAT, many FUSE and SMB mounts; EMLINK: no more of them.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
TAKEN = "taken"  # folder for one empty file per key that was created without hard links
TAKER_S = 5.0  # how long another process may need from taking a key to creating it


@dataclass(frozen=True)
class FolderBackend:
    """A backend in a folder, which is created at the first write. Files are read-only."""

    root: Path

    def __str__(self) -> str:
        return f"file://{self.root}"

    @property
    def is_local(self) -> bool:
        return True

    def local_path(self, key: str) -> Path:
        return self.root / key

    def size(self, key: str) -> int | None:
        try:
            return self.local_path(key).stat().st_size
        except FileNotFoundError:
            return None

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        return list(map(self.size, keys))

    def require_space(self, size: int) -> None:
        require_space(self.root, size, "the new version", "store.uri")

    def fetch(self, key: str, target: Writer) -> None:
        with self.local_path(key).open("rb") as file:
            shutil.copyfileobj(file, target, BLOCK)

    def put(self, key: str, source: Path, sha256: str) -> None:
        with self.atomic_writer(key) as file, source.open("rb") as content:
            shutil.copyfileobj(content, writer := HashingWriter(file), BLOCK)
            if writer.hexdigest() != sha256:
                raise UserError(f"{source} changed while it was pushed: push again")

    @contextmanager
    def atomic_writer(self, key: str) -> Iterator[IO[bytes]]:
        """Yield a temporary file that becomes `key` when the block succeeds and is deleted when it fails."""
        with self._temporary_file(key) as file:
            yield file
            _make_durable(file)
            os.replace(file.name, self.local_path(key))
            _sync_folder(self.local_path(key).parent)

    def create(self, key: str, content: bytes) -> bool:
        with self._temporary_file(key) as file:
            file.write(content)
            _make_durable(file)
            path = self.local_path(key)
            try:
                # Unlike a rename, a hard link fails when the target exists.
                os.link(file.name, path)
            except FileExistsError:
                # On NFS, a reply may be lost, and the repeated request then finds its own link.
                return os.path.samefile(file.name, path)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return self._create_without_links(key, Path(file.name))
            _sync_folder(path.parent)
        return True

    def _create_without_links(self, key: str, content: Path) -> bool:
        """Create `key` as `create` does, on a disk without hard links.

        The key is first taken, for good, by creating an empty file, which fails where another process has done so; only
        who has taken it renames its content to it. Others wait for that, so that they see what was created. Who dies in
        between leaves a key that exists for `create` alone, so a push goes on with the next number.
        """
        path = self.local_path(key)
        taken = self.root / TAKEN / key
        taken.parent.mkdir(parents=True, exist_ok=True)
        try:
            taken.touch(exist_ok=False)
        except FileExistsError:
            deadline = time.monotonic() + TAKER_S
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            return False
        _sync_folder(taken.parent)
        if path.exists():
            return False
        content.rename(path)
        _sync_folder(path.parent)
        return True

    def replace(self, key: str, content: bytes) -> None:
        with self.atomic_writer(key) as file:
            file.write(content)

    def delete(self, key: str) -> None:
        self.local_path(key).unlink(missing_ok=True)
        (self.root / TAKEN / key).unlink(missing_ok=True)

    def modified(self, key: str) -> float | None:
        try:
            return self.local_path(key).stat().st_mtime
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.local_path(prefix).rglob("*") if path.is_file()]

    @contextmanager
    def _temporary_file(self, key: str) -> Iterator[IO[bytes]]:
        """Yield a file on the store's own disk, so that it can be renamed or linked; delete it after the block."""
        incoming = self.root / "incoming"
        for folder in (incoming, self.local_path(key).parent):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=incoming, delete=False) as file:
            try:
                with naming(self.local_path(key)):
                    yield file
            finally:
                Path(file.name).unlink(missing_ok=True)


def _make_durable(file: IO[bytes]) -> None:
    """Make a file read-only and flush it to the disk, so that no crash leaves a key without its bytes."""
    file.flush()
    os.chmod(file.name, 0o444)
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: without it a crash can undo a rename."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
