"""Versions of folders: `plant-pathology:3` is the same bytes for ever, wherever it is opened.

Files are objects named by their SHA-256, so a push moves only what the store lacks, and every read can be checked.
A version is one small manifest, created after all its objects: what is visible is complete, and of two pushers who
want the same number, one takes the next. Nothing ever replaces a manifest but the tombstone of a removed version, so
no number stands for two contents.
"""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.files import atomic_folder
from plant_pathology.core.hashes import content_hash, file_hash, sealed, unsealed
from plant_pathology.store.cache import Cache
from plant_pathology.store.claims import Claim, pushing
from plant_pathology.store.folder import TRANSFERS, Hashing, Nowhere, Objects
from plant_pathology.store.keys import MANIFEST_KEY, OBJECT, REF, check_file, check_name, manifest_key, object_key

if TYPE_CHECKING:
    from plant_pathology.store.incremental import PlainFolder, PreparedFolder

READS = 5  # of bytes that arrive damaged


@dataclass(frozen=True)
class Version:
    """One immutable version of one name.

    Attributes:
        created: UTC, ISO 8601.
        identity: SHA-256 of the content however it is arranged in shards; a name has one version of each.
        lineage: `parent`, the number of the version before, or null; rows `added`, `removed` and `changed` since then,
            where that can be told; `commit` and `uncommitted`, of the code that pushed; `push`, unique to each.
        files: {relative path: {"sha256": hex, "size": bytes}}; of a shard also its "rows".
        sha256: of `files` in canonical JSON.
    """

    name: str
    version: int
    created: str
    note: str
    identity: str
    lineage: dict[str, Any]
    sha256: str
    files: dict[str, dict]
    store: "Store"

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())

    def manifest(self) -> bytes:
        """What the store keeps of the version, as JSON."""
        return sealed({field.name: getattr(self, field.name) for field in fields(self) if field.name != "store"})

    def open(self, file: str) -> Path:
        """A local, read-only path of one file: in place in a folder store, else a checked copy in the cache.

        Raises:
            UserError: the version has no such file, or the store cannot be read.
            DamagedError: the bytes are not what was pushed; in place, only their number is looked at.
        """
        if file not in self.files:
            raise UserError(f"{self.ref} has no {file}; `python -m plant_pathology.datastore show` lists its files")
        key, size = self._key(file), self.files[file]["size"]
        if self.store.cache:
            return self.store.cache.open(key, size, partial(self.copy, file))
        if self.store.objects.size(key) != size:
            raise DamagedError(f"{file} of {self.ref}: {key} is gone or cut; push the same folder again")
        return self.store.objects.path(key)

    def prefetch(self, files: Iterable[str]) -> None:
        """Start to fetch files into the cache, in this order, behind whatever the caller does next."""
        if not self.store.cache:
            return
        ahead: SimpleQueue[str] = SimpleQueue()
        for file in files:
            ahead.put(file)

        def fetch() -> None:
            with suppress(Empty):
                while True:
                    file = ahead.get_nowait()
                    # Whoever needs the file meets the same error, and can tell it.
                    with suppress(UserError, OSError):
                        self.open(file)

        # Daemons, so that nobody waits for files that nobody needs any more.
        for _ in range(TRANSFERS):
            Thread(target=fetch, daemon=True).start()

    def copy(self, file: str, target: BinaryIO) -> None:
        """Write one file's bytes to `target`, an empty file.

        Raises: DamagedError when they are not what was pushed.
        """
        key = self._key(file)
        for _ in range(READS):
            # From the start: another attempt replaces what the last one wrote.
            target.seek(0)
            target.truncate()
            copied = Hashing(target)
            try:
                self.store.objects.fetch(key, copied)
            except FileNotFoundError:
                raise DamagedError(f"{file} of {self.ref}: {key} is gone; push the same folder again") from None
            if copied.hexdigest() == self.files[file]["sha256"]:
                return
        raise DamagedError(
            f"{file} of {self.ref}: {key} is not what was pushed; delete it and push the same folder again"
        )

    def sound(self) -> set[str]:
        """The files of which the store has as many bytes as were pushed."""
        sizes = self.store.objects.sizes([self._key(file) for file in self.files])
        return {file for file, size in zip(self.files, sizes, strict=True) if size == self.files[file]["size"]}

    def damages(self) -> list[str]:
        """Read every byte; what is wrong, a line a file."""

        def damage(file: str) -> str | None:
            try:
                self.copy(file, Nowhere())
            except DamagedError as error:
                return str(error)

        return [line for line in self._each(damage, "verify") if line]

    def pull(self, folder: Path) -> None:
        """Copy all files to a new or empty folder, which then is whole.

        Raises:
            DamagedError: a file is not what was pushed; then there is no folder.
        """
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} holds files already: name a new folder, or empty it")
        with atomic_folder(folder.resolve()) as work:

            def fetch(file: str) -> None:
                (work / file).parent.mkdir(parents=True, exist_ok=True)
                with (work / file).open("wb") as target:
                    self.copy(file, target)

            self._each(fetch, "pull")

    def _each(self, job: Callable[[str], Any], what: str) -> list:
        """`job` on every file, several at a time."""
        with ThreadPoolExecutor(TRANSFERS) as pool:
            return list(tqdm(pool.map(job, self.files), what, len(self.files), unit="file", disable=None))

    def _key(self, file: str) -> str:
        return object_key(self.files[file]["sha256"])


@dataclass(frozen=True)
class Store:
    """All versions of all names in one place.

    Args:
        cache: where files are opened; None opens them in place, which a folder allows.
    """

    objects: Objects
    cache: Cache | None = None

    def push(self, name: str, folder: Path, note: str = "", commit: dict | None = None) -> tuple[Version, bool]:
        """Store all files below `folder` as the next version of `name`, arranged after its latest one.

        Args:
            commit: that of the code which pushes, for the version's lineage.

        Returns:
            The version, and whether it is new: content that has a version already gets no other.

        Raises:
            UserError: a name is not safe to store, there is nothing to store, or the store failed.
        """
        # Imported here, so that whoever only reads, as a run or a status does, starts without waiting for pandas.
        from plant_pathology.store.incremental import content_of

        check_name(name)
        if not note.isprintable():
            raise UserError("store.note must be one line without control characters")
        content = content_of(folder)
        while True:
            with pushing(self.objects) as claim:
                if pushed := self._push(name, content, note, commit or {}, claim):
                    return pushed

    def _push(
        self, name: str, content: "PlainFolder | PreparedFolder", note: str, commit: dict, claim: Claim
    ) -> tuple[Version, bool] | None:
        """As `push`; None when the claim ended before the version stood."""
        stored = None
        while True:
            taken = self.taken(name)
            versions = self._read_all(taken)
            for version in reversed(versions):
                if version.identity == content.identity:
                    self._mend(version, content)
                    return version, False
            if stored is None:
                parent = versions[-1] if versions else None
                stored = self._store(content, parent)
                # What was seen is old by now.
                continue
            files, changes = stored
            lineage = {"parent": parent and parent.version} | changes | commit | {"push": claim.key}
            number = max((number for _, number in taken), default=0) + 1
            created = datetime.now(UTC).isoformat(timespec="seconds")
            version = Version(name, number, created, note, content.identity, lineage, content_hash(files), files, self)
            if not claim.holds():
                return None
            if self.objects.create(manifest_key(name, number), version.manifest()):
                return version, True

    def _store(
        self, content: "PlainFolder | PreparedFolder", parent: Version | None
    ) -> tuple[dict[str, dict], dict[str, int]]:
        """Bring all objects of a version into the store; its files, and the rows that changed."""
        with TemporaryDirectory(prefix="plant-pathology-") as work, ThreadPoolExecutor(TRANSFERS) as pool:
            arranged = content.arrange(parent, Path(work))
            new = {file: path for file, path in arranged.files.items() if isinstance(path, Path)}
            entries = dict(zip(new, pool.map(entry_of, new.values()), strict=True))
            sizes = self.objects.sizes([object_key(entry["sha256"]) for entry in entries.values()])
            lacking = [file for file, size in zip(new, sizes, strict=True) if size != entries[file]["size"]]

            def put(file: str) -> None:
                sha256 = entries[file]["sha256"]
                self.objects.put(object_key(sha256), new[file], sha256)

            list(tqdm(pool.map(put, lacking), "push", len(lacking), unit="file", disable=None))
        files = arranged.files | entries
        for shard, rows in arranged.rows.items():
            files[shard] = files[shard] | {"rows": rows}
        return {file: files[file] for file in sorted(files)}, arranged.changes

    def _mend(self, version: Version, content: "PlainFolder | PreparedFolder") -> None:
        """Bring back what the store lost of a version of this content."""
        if not (lacking := version.files.keys() - version.sound()):
            return
        with TemporaryDirectory(prefix="plant-pathology-") as work:
            restored = content.restore(version, lacking, Path(work))
            for file in sorted(lacking):
                sha256 = version.files[file]["sha256"]
                if file not in restored or file_hash(restored[file]) != sha256:
                    raise DamagedError(
                        f"{file} of {version.ref} is damaged, and this folder cannot mend it:"
                        f" `rm data.ref={version.ref}`, and push again"
                    )
                self.objects.put(object_key(sha256), restored[file], sha256)

    def versions(self, name: str | None = None) -> list[Version]:
        """All there are, or one name's, by name, oldest first."""
        return self._read_all(self.taken(name))

    def refs(self, name: str | None = None) -> list[tuple[str, int]]:
        """The (name, number) of `versions`."""
        return [(version.name, version.version) for version in self.versions(name)]

    def taken(self, name: str | None = None) -> list[tuple[str, int]]:
        """The (name, number) of all versions that ever were, or of one name's, oldest first."""
        keys = self.objects.keys(f"versions/{name}" if name else "versions")
        matches = [match for key in keys if (match := MANIFEST_KEY.fullmatch(key))]
        return sorted((match[1], int(match[2])) for match in matches)

    def resolve(self, ref: str) -> Version:
        """The version that `name:3` stands for, or `name` for its latest.

        Raises:
            UserError: there is none; the message lists what there is.
        """
        if not (match := REF.fullmatch(ref)):
            raise UserError(f"{ref!r} is no version: write <name>:<number>, such as plant-pathology:3")
        name, number = match.groups()
        taken = self.taken(name)
        for wanted in reversed(taken):
            if number in (None, str(wanted[1])) and (version := self._read(*wanted)):
                return version
        there = ", ".join(f"{name}:{number}" for name, number in self.refs(name) or self.refs()) or "no version at all"
        removed = " (it was removed)" if number and (name, int(number)) in taken else ""
        raise UserError(f"{self.objects} holds {there}, and not {ref}{removed}: set data.ref or store.uri, or push it")

    def _read_all(self, refs: list[tuple[str, int]]) -> list[Version]:
        with ThreadPoolExecutor(TRANSFERS) as pool:
            return [version for version in pool.map(self._read, *zip(*refs, strict=True)) if version] if refs else []

    def _read(self, name: str, number: int) -> Version | None:
        """One version; None when it was removed."""
        key = manifest_key(name, number)
        for _ in range(READS):
            content = io.BytesIO()
            self.objects.fetch(key, content)
            try:
                return self._parse(unsealed(content.getvalue()), name, number)
            except (ValueError, TypeError, KeyError, AttributeError, UserError) as error:
                damage = error
        raise UserError(f"{self.objects}: {key} is damaged ({damage}): restore it from a copy")

    def _parse(self, manifest: dict[str, Any], name: str, number: int) -> Version | None:
        if (manifest["name"], manifest["version"]) != (name, number):
            raise ValueError("it does not match its own place")
        if "removed" in manifest:
            return None
        version = Version(**manifest, store=self)
        for file, entry in version.files.items():
            check_file(file)
            if not OBJECT.fullmatch(object_key(entry["sha256"])) or entry["size"] < 0:
                raise ValueError(f"{file} has no SHA-256 and size")
        if version.sha256 != content_hash(version.files):
            raise ValueError("it does not match its own hash")
        return version


def entry_of(path: Path) -> dict[str, Any]:
    """What a version keeps of a file."""
    return {"sha256": file_hash(path), "size": path.stat().st_size}
