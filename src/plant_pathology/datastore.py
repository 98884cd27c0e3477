"""A versioned datastore: whole numbers that people can say aloud (plant-pathology:3), each the same bytes for ever.

Files are objects named by their SHA-256, so pushing again moves only what changed, and every read can be checked.
A version is one small JSON file, created after all its objects and never replaced, so what is visible is complete.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from plant_pathology.objects import FolderObjects, Objects, open_objects
from plant_pathology.stage import StageError, read_json, stage, whole_file, whole_folder, write_json

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Version:
    """One immutable version: `files` are {relative path: {"sha256": …, "size": bytes}}."""

    name: str
    version: int
    created: str
    note: str
    sha256: str
    files: dict[str, dict]
    objects: Objects
    cache: Path

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())

    def open(self, file: str) -> Path:
        """A local path of one file: the object itself in a folder store, a checked copy in the cache otherwise.

        Raises:
            StageError: the version has no such file, or its bytes are not what they were.
        """
        if file not in self.files:
            raise StageError(f"{self.ref} has no {file}, only {', '.join(sorted(self.files)[:5])}, …")
        entry, key = self.files[file], object_key(self.files[file]["sha256"])
        if isinstance(self.objects, FolderObjects):
            path = self.objects.path(key)
            if not path.exists() or path.stat().st_size != entry["size"]:
                raise StageError(f"{path}, {file} of {self.ref}, is damaged or gone: delete it and push it again")
            return path
        path = self.cache / entry["sha256"]
        if not path.exists():
            with whole_file(path) as work:
                work.write_bytes(self.read(file))
        return path

    def read(self, file: str) -> bytes:
        """One file's bytes, checked.

        Raises:
            StageError: they are not what was pushed.
        """
        wanted = self.files[file]["sha256"]
        try:
            content = self.objects.read(object_key(wanted))
        except FileNotFoundError:
            raise StageError(f"{file} of {self.ref} is gone from the store: push it again") from None
        if hashlib.sha256(content).hexdigest() != wanted:
            raise StageError(
                f"{file} of {self.ref} is damaged in the store: delete {object_key(wanted)} there and push it again"
            )
        return content


class Store:
    """All versions of all names under one URI."""

    def __init__(self, objects: Objects, cache: Path):
        self.objects, self.cache = objects, cache

    def push(self, name: str, folder: Path, note: str = "") -> tuple[Version, bool]:
        """Store `folder` as the next version of `name`.

        Returns:
            The version, and whether it is new: the same content gives the version that has it already.

        Raises:
            StageError: a name could not be stored safely.
        """
        check_name(name)
        paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files = {file: {"sha256": file_hash(path), "size": path.stat().st_size} for file, path in paths.items()}
        check_files(files)
        content = content_hash(files)
        known = next((version for version in self.versions(name) if version.sha256 == content), None)
        for file, path in tqdm(paths.items(), "push", unit="file", disable=None):
            key = object_key(files[file]["sha256"])
            if not self.objects.exists(key):
                self.objects.upload(key, path)
        if known:
            return known, False
        created = datetime.now(UTC).isoformat(timespec="seconds")
        number = max((version.version for version in self.versions(name)), default=0) + 1
        while True:
            version = Version(name, number, created, note, content, files, self.objects, self.cache)
            if self.objects.create(version_key(name, number), manifest_of(version)):
                return version, True
            number += 1

    def versions(self, name: str | None = None) -> list[Version]:
        """All versions, of one name or of all, oldest first."""
        return [self._read(key) for key in self.objects.keys(f"versions/{name}" if name else "versions")]

    def resolve(self, ref: str) -> Version:
        """The version that `name:3`, or `name` for the latest, stands for.

        Raises:
            StageError: there is none; it says what there is.
        """
        name, _, number = ref.partition(":")
        check_name(name)
        versions = self.versions(name)
        found = [each for each in versions if not number or str(each.version) == number]
        if not found:
            there = ", ".join(each.ref for each in versions or self.versions()) or "nothing"
            raise StageError(f"the store has no {ref}, but {there}: run `python -m plant_pathology.datastore push`")
        return found[-1]

    def _read(self, key: str) -> Version:
        try:
            manifest = json.loads(self.objects.read(key))
            version = Version(**manifest, objects=self.objects, cache=self.cache)
            check_name(version.name)
            check_files(version.files)
            if content_hash(version.files) != version.sha256 or version_key(version.name, version.version) != key:
                raise ValueError("its content does not match its hash or place")
        except (ValueError, TypeError, KeyError) as error:
            raise StageError(f"{key} in the store is damaged ({error}): restore it, or delete that version") from None
        return version


def version_key(name: str, number: int) -> str:
    return f"versions/{name}/{number:06d}.json"


def object_key(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"


def manifest_of(version: Version) -> bytes:
    content = {key: getattr(version, key) for key in ("name", "version", "created", "note", "sha256", "files")}
    return (json.dumps(content, indent=1) + "\n").encode()


def content_hash(files: dict[str, dict]) -> str:
    """SHA-256 over names, sizes and hashes, in one canonical spelling: equal content, equal hash, on any machine."""
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_name(name: str) -> None:
    """Raises: StageError on a name that could lead out of the store, or that a URL or a shell would mangle."""
    if not NAME.fullmatch(name):
        raise StageError(f"store name {name!r}: lower-case letters, digits, dots, hyphens, underscores; no other")


def check_files(files: dict[str, dict]) -> None:
    """Raises: StageError on a file that could lead out of its folder, or on an object that is no SHA-256."""
    for file, entry in files.items():
        if not FILE.fullmatch(file):
            raise StageError(f"file name {file!r} cannot be stored: letters, digits, dots, hyphens, underscores")
        if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
            raise StageError(f"{file}: {entry['sha256']!r} is no SHA-256")


def open_store(cfg: DictConfig) -> Store:
    objects = open_objects(cfg.store.uri, cfg.store.endpoint_url, cfg.store.sse)
    return Store(objects, Path(cfg.store.cache).expanduser())


def open_version(cfg: DictConfig) -> Version:
    """The version that data.ref names or, when that is null, the one that the pointer file does.

    Raises:
        StageError: there is no such version, or it is not the one that was pushed.
    """
    if cfg.data.ref:
        return open_store(cfg).resolve(cfg.data.ref)
    pointer = read_json(Path(cfg.paths.pointer), "run `python -m plant_pathology.datastore push`, or set data.ref")
    version = open_store(cfg).resolve(pointer["ref"])
    if version.sha256 != pointer["sha256"]:
        raise StageError(f"{cfg.paths.pointer}: {version.ref} in {cfg.store.uri} is not what was pushed: push again")
    return version


def push(cfg: DictConfig) -> None:
    folder = Path(cfg.paths.prepared)
    read_json(folder / "manifest.json", "run `python -m plant_pathology.prepare`")
    version, new = open_store(cfg).push(cfg.store.name, folder, cfg.store.note)
    write_json(Path(cfg.paths.pointer), {"ref": version.ref, "uri": cfg.store.uri, "sha256": version.sha256})
    print(f"{version.ref}: {human(version.size)}, {'new' if new else 'there already'}, in {cfg.store.uri}")


def ls(cfg: DictConfig) -> None:
    table = Table("name", "version", "size", "created", "note")
    for version in open_store(cfg).versions():
        table.add_row(version.name, str(version.version), human(version.size), version.created, version.note)
    Console().print(table)


def show(cfg: DictConfig) -> None:
    print(manifest_of(open_version(cfg)).decode(), end="")


def pull(cfg: DictConfig) -> None:
    if not cfg.store.into:
        raise StageError("store.into must name the folder that the copy goes to")
    version = open_version(cfg)
    with whole_folder(Path(cfg.store.into)) as folder:
        for file in tqdm(version.files, "pull", unit="file", disable=None):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(version.read(file))
    print(f"{version.ref}: {human(version.size)} in {cfg.store.into}")


def verify(cfg: DictConfig) -> None:
    version = open_version(cfg)
    for file in tqdm(version.files, "verify", unit="file", disable=None):
        version.read(file)
    print(f"{version.ref}: all {len(version.files)} files, {human(version.size)}, are what was pushed")


def human(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"


VERBS: dict[str, tuple[Callable[[DictConfig], None], str]] = {
    "push": (push, "store paths.prepared as the next version, and write the pointer"),
    "ls": (ls, "list all versions"),
    "show": (show, "one version with its files: data.ref=plant-pathology:3, or the pointer's"),
    "pull": (pull, "copy a version: store.into=<folder>"),
    "verify": (verify, "read and check every byte of a version"),
}
USAGE = "usage: python -m plant_pathology.datastore <verb> [key=value …]\n\n" + "\n".join(
    f"  {verb:7} {purpose}" for verb, (_, purpose) in VERBS.items()
)


def main() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else None
    if verb not in VERBS:
        print(USAGE, file=sys.stdout if verb in ("-h", "--help") else sys.stderr)
        sys.exit(0 if verb in ("-h", "--help") else 2)
    del sys.argv[1]
    stage(VERBS[verb][0])()


if __name__ == "__main__":
    main()
