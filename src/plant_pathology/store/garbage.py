"""Remove versions, and delete the objects that no version uses (garbage collection).

A removed version leaves a tombstone in place of its manifest, so that its number is never used again.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import sealed
from plant_pathology.store.backend import TRANSFERS
from plant_pathology.store.claims import LIFETIME_S, claim
from plant_pathology.store.keys import OBJECT, manifest_key, object_key
from plant_pathology.store.store import Store
from plant_pathology.store.version import Version


def rm(store: Store, ref: str) -> Version:
    """Remove one version; its objects stay until `gc`.

    Raises:
        UserError: `ref` is not the name and number of a version.
    """
    version = store.resolve(ref)
    if ref != version.ref:
        raise UserError(f"{ref} stands for the latest version: name the one to remove, such as data.ref={version.ref}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    tombstone = sealed({"name": version.name, "version": version.version, "removed": now})
    store.backend.replace(manifest_key(version.name, version.version), tombstone)
    return version


@dataclass(frozen=True)
class GcResult:
    """What a gc did.

    Attributes:
        objects: number of objects that were deleted.
        size: their bytes.
        left: number of unused objects that were not deleted, because the gc's claim was about to expire.
    """

    objects: int
    size: int
    left: int


def gc(store: Store) -> GcResult:
    """Delete all objects that no version uses, and the temporary files of killed pushes.

    Raises:
        BusyError: a push is at work.
        UserError: a manifest is damaged, so that the objects it uses are unknown.
    """
    with claim(store.backend, "gc", rival="push") as own:
        used = {object_key(entry["sha256"]) for version in store.versions() for entry in version.files.values()}
        unused = [key for key in store.backend.keys("objects") if OBJECT.fullmatch(key) and key not in used]
        began = store.backend.modified(own.key) or 0
        for key in store.backend.keys("incoming"):
            if (written := store.backend.modified(key)) and began - written > LIFETIME_S["push"]:
                unused.append(key)

        def delete(key: str) -> int | None:
            size = store.backend.size(key)
            if not own.is_fresh():
                return None
            store.backend.delete(key)
            return size or 0

        with ThreadPoolExecutor(TRANSFERS) as pool:
            sizes = list(pool.map(delete, unused))
    deleted = [size for size in sizes if size is not None]
    return GcResult(len(deleted), sum(deleted), len(sizes) - len(deleted))
