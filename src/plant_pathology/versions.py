"""Versions of folders: `plant-pathology:3` is the same bytes for ever, wherever it is opened.

Files are objects named by their SHA-256, so a push moves only what the store lacks, and every read can be checked.
A version is one small manifest, created after all its objects and never replaced: what is visible is complete, and
of two pushers who want the same number, one takes the next.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import BinaryIO

from tqdm import tqdm

from plant_pathology.cache import Cache
from plant_pathology.objects import Hashing, Objects
from plant_pathology.stage import StageError, whole_folder

NAME = r"[a-z0-9][a-z0-9._-]*"
REF = re.compile(rf"({NAME})(?::([1-9][0-9]*))?")
MANIFEST = re.compile(rf"versions/({NAME})/([1-9][0-9]*)\.json")
SHA256 = re.compile(r"[0-9a-f]{64}")
TRANSFERS = 8  # at a time


class DamagedError(StageError):
    """A stored file is not what was pushed."""


@dataclass(frozen=True)
class Version:
    """One immutable version of one name.

    Attributes:
        created: UTC, ISO 8601.
        files: {relative path: {"sha256": hex, "size": bytes}}.
        sha256: of `files` in canonical JSON; equal content has equal hashes on any machine.
    """

    name: str
    version: int
    created: str
    note: str
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
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "store"}
        return (json.dumps(content, indent=1) + "\n").encode()

    def open(self, file: str) -> Path:
        """A local, read-only path of one file: in place in a folder store, else a checked copy in the cache.

        Raises:
            StageError: the version has no such file, or the store cannot be read.
            DamagedError: the bytes are not what was pushed; in place, only their number is looked at.
        """
        if file not in self.files:
            raise StageError(f"{self.ref} has no {file}; `python -m plant_pathology.datastore show` lists its files")
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
                    with suppress(StageError, OSError):
                        self.open(file)

        # Daemons, so that nobody waits for files that nobody needs any more.
        for _ in range(TRANSFERS):
            Thread(target=fetch, daemon=True).start()

    def copy(self, file: str, target: BinaryIO) -> None:
        """Write one file's bytes to `target`.

        Raises: DamagedError when they are not what was pushed.
        """
        key, copied = self._key(file), Hashing(target)
        try:
            self.store.objects.fetch(key, copied)
        except FileNotFoundError:
            raise DamagedError(f"{file} of {self.ref}: {key} is gone; push the same folder again") from None
        if copied.hexdigest() != self.files[file]["sha256"]:
            raise DamagedError(
                f"{file} of {self.ref}: {key} is not what was pushed; delete it and push the same folder again"
            )

    def damages(self) -> list[str]:
        """Read every byte; what is wrong, a line a file."""
        found = []
        with open(os.devnull, "wb") as nowhere:
            for file in tqdm(self.files, "verify", unit="file", disable=None):
                try:
                    self.copy(file, nowhere)
                except DamagedError as error:
                    found.append(str(error))
        return found

    def pull(self, folder: Path) -> None:
        """Copy all files to a new or empty folder, which then is whole.

        Raises:
            DamagedError: a file is not what was pushed; then there is no folder.
        """
        if folder.exists() and any(folder.iterdir()):
            raise StageError(f"{folder} holds files already: name a new folder, or empty it")
        with whole_folder(folder.resolve()) as work:
            for file in tqdm(self.files, "pull", unit="file", disable=None):
                (work / file).parent.mkdir(parents=True, exist_ok=True)
                with (work / file).open("wb") as target:
                    self.copy(file, target)

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

    def push(self, name: str, folder: Path, note: str = "") -> tuple[Version, bool]:
        """Store all files below `folder` as the next version of `name`.

        Returns:
            The version, and whether it is new: content that has a version already gets no other.

        Raises:
            StageError: a name is not safe to store, there is nothing to store, or the store failed.
        """
        check_name(name)
        if not note.isprintable():
            raise StageError("store.note must be one line without control characters")
        paths = files_below(folder)
        with ThreadPoolExecutor(TRANSFERS) as pool:
            entries = list(tqdm(pool.map(self._add, paths.values()), "push", len(paths), unit="file", disable=None))
        files = dict(zip(paths, entries, strict=True))
        content, number = content_hash(files), 0
        # Once, unless another pusher takes the number first.
        while True:
            refs = self.refs(name)
            for ref in reversed(refs):
                if (version := self._read(*ref)).sha256 == content:
                    return version, False
            number = max([number, *(taken for _, taken in refs)]) + 1
            created = datetime.now(UTC).isoformat(timespec="seconds")
            version = Version(name, number, created, note, content, files, self)
            if self.objects.create(manifest_key(name, number), version.manifest()):
                return version, True

    def versions(self) -> list[Version]:
        """All there are, by name, oldest first."""
        return [self._read(*ref) for ref in self.refs()]

    def refs(self, name: str | None = None) -> list[tuple[str, int]]:
        """The (name, number) of all versions, or of one name's, oldest first."""
        keys = self.objects.keys(f"versions/{name}" if name else "versions")
        matches = [match for key in keys if (match := MANIFEST.fullmatch(key))]
        return sorted((match[1], int(match[2])) for match in matches)

    def resolve(self, ref: str) -> Version:
        """The version that `name:3` stands for, or `name` for its latest.

        Raises:
            StageError: there is none; the message lists what there is.
        """
        if not (match := REF.fullmatch(ref)):
            raise StageError(f"{ref!r} is no version: write <name>:<number>, such as plant-pathology:3")
        name, number = match.groups()
        refs = self.refs(name)
        wanted = (name, int(number)) if number else refs[-1] if refs else None
        if wanted not in refs:
            there = ", ".join(f"{name}:{number}" for name, number in refs or self.refs()) or "no version at all"
            raise StageError(f"{self.objects} holds {there}, and not {ref}: set data.ref or store.uri, or push it")
        return self._read(*wanted)

    def _add(self, path: Path) -> dict:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        entry, key = {"sha256": sha256, "size": path.stat().st_size}, object_key(sha256)
        if self.objects.size(key) != entry["size"]:
            self.objects.put(key, path, sha256)
        return entry

    def _read(self, name: str, number: int) -> Version:
        key, content = manifest_key(name, number), io.BytesIO()
        self.objects.fetch(key, content)
        try:
            version = Version(**json.loads(content.getvalue()), store=self)
            for file, entry in version.files.items():
                check_file(file)
                if not SHA256.fullmatch(entry["sha256"]) or entry["size"] < 0:
                    raise ValueError(f"{file} has no SHA-256 and size")
            if version.sha256 != content_hash(version.files) or (version.name, version.version) != (name, number):
                raise ValueError("it does not match its own hash or place")
        except (ValueError, TypeError, KeyError, AttributeError, StageError) as error:
            raise StageError(f"{self.objects}: {key} is damaged ({error}): restore it from a copy") from None
        return version


def manifest_key(name: str, number: int) -> str:
    return f"versions/{name}/{number}.json"


def object_key(sha256: str) -> str:
    return f"objects/{sha256}"


def content_hash(files: dict[str, dict]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def files_below(folder: Path) -> dict[str, Path]:
    """{relative path: path} of all files, sorted. Raises: StageError on none, or on one that cannot be stored."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for file, path in paths.items():
        check_file(file)
        if not path.is_file() and (path.is_symlink() or not path.is_dir()):
            raise StageError(f"{path} is neither a file nor a folder: delete it, or replace the link by a copy")
    if files := {file: paths[file] for file in sorted(paths) if paths[file].is_file()}:
        return files
    raise StageError(f"{folder} holds no files to push")


def check_name(name: str) -> None:
    """Raises: StageError on a name that leads out of the store, or that people could not type in a command."""
    if not re.fullmatch(NAME, name):
        raise StageError(f"store.name={name!r} must be of a-z, 0-9, '.', '_', '-', and begin with a letter or digit")


def check_file(file: str) -> None:
    """Raises: StageError on a path that leads out of its folder, here or on another system."""
    if not file.isprintable() or {"\\", ":"} & set(file) or {"", ".", ".."} & set(file.split("/")):
        raise StageError(f"{file!r} cannot be stored: write a relative path without .., colons and backslashes")
