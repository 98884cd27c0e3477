"""Open, verify and pull one version: a named, numbered folder whose bytes never change, such as plant-pathology:3.

Its files are objects named by their SHA-256, so every read can be checked.
"""

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from plant_pathology.core.disk import require_space
from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.files import naming
from plant_pathology.core.hashes import sealed
from plant_pathology.store.backend import TRANSFERS, HashingWriter
from plant_pathology.store.keys import object_key
from plant_pathology.store.verified import has_hash

if TYPE_CHECKING:
    from plant_pathology.store.store import Store

READ_ATTEMPTS = 5  # when bytes arrive damaged
T = TypeVar("T")


@dataclass(frozen=True)
class Version:
    """One immutable version of a folder.

    Attributes:
        name, version: name and number; together they are the `ref`.
        created: UTC, ISO 8601.
        note: one line by the user.
        identity: SHA-256 of the content, the same however the rows are packed into shards.
        lineage: `parent`, the number of the previous version, or None; the rows `added`, `removed` and `changed` since
            then, when both are prepared data; `commit` and `uncommitted` files of the code that pushed; `push`, the key
            of the claim, unique to each push.
        files: {relative path: {"sha256": hex, "size": bytes}}; for a shard also "rows", their number.
        sha256: of `files` as canonical JSON.
        store: where the version is stored.
    """

    name: str
    version: int
    created: str
    note: str
    identity: str
    lineage: dict[str, Any]
    sha256: str
    files: dict[str, dict[str, Any]]
    store: "Store"

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())

    def manifest(self) -> bytes:
        """Return the JSON that the store keeps of this version."""
        return sealed({field.name: getattr(self, field.name) for field in fields(self) if field.name != "store"})

    def open(self, file: str) -> Path:
        """Return a local, read-only path of one file.

        With a cache it is a copy there; without one it is the store's own file. A process checks all bytes of each file
        that it opens, once.

        Raises:
            UserError: the version has no such file, or the store cannot be read.
            DamagedError: the bytes differ from those that were pushed.
        """
        if file not in self.files:
            raise UserError(f"{self.ref} has no {file}: `python -m plant_pathology.datastore show` lists its files")
        key, size = self._key(file), self.files[file]["size"]
        is_whole = partial(has_hash, sha256=self.files[file]["sha256"])
        if self.store.cache:
            return self.store.cache.open(key, is_whole, size, partial(self.copy, file))
        if self.store.backend.size(key) != size:
            raise DamagedError(f"{file} of {self.ref}: {key} is missing or truncated: push the same folder again")
        if (path := self.store.backend.local_path(key)) is None:
            raise ValueError(f"{self.store.backend} has no local files: its Store needs a cache")
        if not is_whole(path):
            raise self._damaged(file)
        return path

    def prefetch(self, files: Iterable[str]) -> None:
        """Start to download files into the cache in the background, in this order."""
        if not self.store.cache:
            return
        queue: SimpleQueue[str] = SimpleQueue()
        for file in files:
            queue.put(file)

        def fetch() -> None:
            with suppress(Empty):
                while True:
                    file = queue.get_nowait()
                    # Whoever needs the file gets the same error from `open`.
                    with suppress(UserError, OSError):
                        self.open(file)

        # Daemon threads, so that the process can end without the remaining files.
        for _ in range(TRANSFERS):
            Thread(target=fetch, daemon=True).start()

    def copy(self, file: str, target: IO[bytes] | None) -> None:
        """Write one file's bytes to `target`, an empty file, and check them; None: only read and check.

        Raises:
            DamagedError: the bytes differ from those that were pushed.
        """
        key = self._key(file)
        for _ in range(READ_ATTEMPTS):
            if target:
                target.seek(0)
                target.truncate()
            writer = HashingWriter(target)
            try:
                self.store.backend.fetch(key, writer)
            except FileNotFoundError:
                raise DamagedError(f"{file} of {self.ref}: {key} is missing: push the same folder again") from None
            if writer.hexdigest() == self.files[file]["sha256"]:
                return
        raise self._damaged(file)

    def complete_files(self) -> set[str]:
        """Return the files whose size in the store is right."""
        sizes = self.store.backend.sizes([self._key(file) for file in self.files])
        return {file for file, size in zip(self.files, sizes, strict=True) if size == self.files[file]["size"]}

    def find_damage(self) -> list[str]:
        """Read every byte; return one line per damaged file."""

        def check(file: str) -> str | None:
            try:
                self.copy(file, None)
            except DamagedError as error:
                return str(error)
            return None

        return [line for line in self._for_each_file(check, "verify") if line]

    def pull(self, folder: Path) -> None:
        """Copy all files into a new or empty folder, atomically.

        Raises:
            UserError: the folder contains files, or the disk has no room for the version.
            DamagedError: a file's bytes differ from those that were pushed; then the folder is not created.
        """
        taken = UserError(f"{folder} holds files already: name a new folder, or empty it")
        if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
            raise UserError(f"{folder} is no folder: name a new folder")
        if folder.exists() and any(folder.iterdir()):
            raise taken
        target = folder.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(target.parent, self.size, self.ref, "store.into")
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            work.chmod(0o755)

            def fetch(file: str) -> None:
                (work / file).parent.mkdir(parents=True, exist_ok=True)
                with (work / file).open("wb") as target, naming(work / file):
                    self.copy(file, target)

            self._for_each_file(fetch, "pull")
            try:
                work.rename(target)  # fails where the folder has got files meanwhile
            except OSError as error:
                raise (taken if error.errno in (errno.ENOTEMPTY, errno.EEXIST) else error) from None
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _for_each_file(self, job: Callable[[str], T], title: str) -> list[T]:
        """Run `job` for every file in parallel threads, with a progress bar."""
        with ThreadPoolExecutor(TRANSFERS) as pool:
            return list(tqdm(pool.map(job, self.files), title, len(self.files), unit="file", disable=None))

    def _damaged(self, file: str) -> DamagedError:
        return DamagedError(
            f"{file} of {self.ref} has other bytes than were pushed: move {self.store.backend}/{self._key(file)} away,"
            " and push the same folder again"
        )

    def _key(self, file: str) -> str:
        return object_key(self.files[file]["sha256"])
