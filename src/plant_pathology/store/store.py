"""Push, list and resolve the versions of a store.

Files are objects named by their SHA-256, so a push uploads only what the store lacks. A version is one small manifest,
created after all its objects: a version that is visible is complete, and of two pushes that want the same number, one
takes the next. Only the tombstone of a removed version ever replaces a manifest, so no number is used twice.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.files import naming
from plant_pathology.core.hashes import content_hash, file_hash, unsealed
from plant_pathology.store.backend import TRANSFERS, Backend
from plant_pathology.store.cache import Cache
from plant_pathology.store.claims import Claim, claim_for_push
from plant_pathology.store.keys import MANIFEST_KEY, OBJECT, REF, check_file, check_name, manifest_key, object_key
from plant_pathology.store.version import READ_ATTEMPTS, Version

if TYPE_CHECKING:
    from plant_pathology.store.incremental import PlainFolder, PreparedFolder


@dataclass(frozen=True)
class Store:
    """All versions in one backend.

    Args:
        cache: where files are downloaded to be opened; None opens the backend's own local files.
    """

    backend: Backend
    cache: Cache | None = None

    def push(
        self, name: str, folder: Path, note: str = "", commit: dict[str, Any] | None = None
    ) -> tuple[Version, bool]:
        """Store all files below `folder` as the next version of `name`, and reuse the shards of the latest version.

        Args:
            commit: `core.provenance.commit` of the code that pushes, for the version's lineage.

        Returns:
            The version, and whether it is new: content that is already a version is not stored again.

        Raises:
            UserError: a name cannot be stored, the folder is empty, or the store failed.
        """
        # Imported here, so that commands that only read start without pandas.
        from plant_pathology.store.incremental import content_of

        check_name(name)
        if not note.isprintable():
            raise UserError("store.note must be one line without control characters")
        content = content_of(folder)
        try:
            while True:
                with claim_for_push(self.backend) as claim:
                    if pushed := self._push(name, content, note, commit or {}, claim):
                        return pushed
        except Exception:
            # A mixture of two states of the folder is no wonder, and the change is its cause.
            content.source.check_unchanged()
            raise

    def _push(
        self, name: str, content: "PlainFolder | PreparedFolder", note: str, commit: dict[str, Any], claim: Claim
    ) -> tuple[Version, bool] | None:
        """Push as `push` does; return None when the claim ended before the version was created."""
        parent, refused = None, 0
        stored: tuple[dict[str, dict], dict[str, int]] | None = None
        while True:
            used_numbers = self.used_numbers(name)
            versions = self._read_all(used_numbers)
            for version in reversed(versions):
                if version.identity == content.identity:
                    content.source.check_unchanged()
                    self._repair(version, content)
                    return version, False
            if stored is None:
                parent = versions[-1] if versions else None
                stored = self._store_files(content, parent)
                # Storing took time: list the versions again.
                continue
            files, changes = stored
            lineage = {"parent": parent and parent.version} | changes | commit | {"push": claim.key}
            # A number that was refused is used, even where a listing does not show it.
            number = max([refused, *(number for _, number in used_numbers)]) + 1
            created = datetime.now(UTC).isoformat(timespec="seconds")
            version = Version(name, number, created, note, content.identity, lineage, content_hash(files), files, self)
            content.source.check_unchanged()
            if not claim.is_held():
                return None
            if self.backend.create(manifest_key(name, number), version.manifest()):
                return version, True
            refused = number

    def _store_files(
        self, content: "PlainFolder | PreparedFolder", parent: Version | None
    ) -> tuple[dict[str, dict], dict[str, int]]:
        """Upload the objects that the store lacks; return the version's files, and the rows that changed."""
        with (
            TemporaryDirectory(prefix="plant-pathology-") as work,
            naming(Path(work)),
            ThreadPoolExecutor(TRANSFERS) as pool,
        ):
            layout = content.lay_out(parent, Path(work))
            new = layout.new
            entries = dict(zip(new, pool.map(_entry_of, new.values()), strict=True))
            sizes = self.backend.sizes([object_key(entry["sha256"]) for entry in entries.values()])
            for file, entry in entries.items():
                if new[file] == content.source.paths.get(file):
                    content.source.check_hash(file, entry["sha256"])
            missing = [file for file, size in zip(new, sizes, strict=True) if size != entries[file]["size"]]
            self.backend.require_space(sum(entries[file]["size"] for file in missing))

            def put(file: str) -> None:
                sha256 = entries[file]["sha256"]
                self.backend.put(object_key(sha256), new[file], sha256)

            list(tqdm(pool.map(put, missing), "push", len(missing), unit="file", disable=None))
        files = layout.reused | entries
        for shard, rows in layout.rows.items():
            files[shard] = files[shard] | {"rows": rows}
        return {file: files[file] for file in sorted(files)}, layout.changes

    def _repair(self, version: Version, content: "PlainFolder | PreparedFolder") -> None:
        """Upload again what the store lost of a version of this content."""
        if not (missing := version.files.keys() - version.complete_files()):
            return
        with TemporaryDirectory(prefix="plant-pathology-") as work, naming(Path(work)):
            restored = content.restore(version, missing, Path(work))
            for file in sorted(missing):
                sha256 = version.files[file]["sha256"]
                if file not in restored or file_hash(restored[file]) != sha256:
                    raise DamagedError(
                        f"{file} of {version.ref} is damaged, and this folder cannot restore it:"
                        f" `rm data.ref={version.ref}`, and push again"
                    )
                self.backend.put(object_key(sha256), restored[file], sha256)

    def versions(self, name: str | None = None) -> list[Version]:
        """List the versions of one name or of all, sorted by name, oldest first."""
        return self._read_all(self.used_numbers(name))

    def refs(self, name: str | None = None) -> list[tuple[str, int]]:
        """List the (name, number) of `versions`."""
        return [(version.name, version.version) for version in self.versions(name)]

    def used_numbers(self, name: str | None = None) -> list[tuple[str, int]]:
        """List every (name, number) that was ever used, removed versions too, oldest first."""
        keys = self.backend.keys(f"versions/{name}" if name else "versions")
        matches = [match for key in keys if (match := MANIFEST_KEY.fullmatch(key))]
        return sorted((match[1], int(match[2])) for match in matches)

    def resolve(self, ref: str) -> Version:
        """Return the version `name:3`, or for `name` its latest.

        Raises:
            UserError: it does not exist; the message lists those that do.
        """
        if not (match := REF.fullmatch(ref)):
            raise UserError(f"{ref!r} is no version: write <name>:<number>, such as plant-pathology:3")
        name, number = match.groups()
        used_numbers = self.used_numbers(name)
        for wanted in reversed(used_numbers):
            if number in (None, str(wanted[1])) and (version := self._read(*wanted)):
                return version
        known = ", ".join(f"{name}:{number}" for name, number in self.refs(name) or self.refs()) or "no version at all"
        removed = " (it was removed)" if number and (name, int(number)) in used_numbers else ""
        raise UserError(f"{self.backend} holds {known}, and not {ref}{removed}: set data.ref or store.uri, or push it")

    def _read_all(self, refs: list[tuple[str, int]]) -> list[Version]:
        with ThreadPoolExecutor(TRANSFERS) as pool:
            versions = pool.map(lambda ref: self._read(*ref), refs)
            return [version for version in versions if version]

    def _read(self, name: str, number: int) -> Version | None:
        """Read one version; return None when it was removed."""
        key = manifest_key(name, number)
        for _ in range(READ_ATTEMPTS):
            content = io.BytesIO()
            self.backend.fetch(key, content)
            try:
                return self._parse(unsealed(content.getvalue()), name, number)
            except (ValueError, TypeError, KeyError, AttributeError, UserError) as error:
                damage = error
        raise UserError(f"{self.backend}: {key} is damaged ({damage}): restore it from a copy")

    def _parse(self, manifest: dict[str, Any], name: str, number: int) -> Version | None:
        """Check a manifest, which somebody else may have written, before its paths are used."""
        if (manifest["name"], manifest["version"]) != (name, number):
            raise ValueError("its name and number differ from its key")
        if "removed" in manifest:
            return None
        version = Version(**manifest, store=self)
        for file, entry in version.files.items():
            check_file(file)
            if not OBJECT.fullmatch(object_key(entry["sha256"])) or entry["size"] < 0:
                raise ValueError(f"{file} has no SHA-256 and size")
        if version.sha256 != content_hash(version.files):
            raise ValueError("its files do not match its sha256")
        return version


def _entry_of(path: Path) -> dict[str, Any]:
    return {"sha256": file_hash(path), "size": path.stat().st_size}
