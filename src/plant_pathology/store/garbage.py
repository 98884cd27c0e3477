"""Taking versions out of a store, and then the objects that no version uses any more.

A removed version leaves a tombstone in place of its manifest, so its number is never used again.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import sealed
from plant_pathology.store.claims import LIFE, claim
from plant_pathology.store.folder import TRANSFERS
from plant_pathology.store.keys import OBJECT, manifest_key, object_key
from plant_pathology.store.store import Store, Version


def rm(store: Store, ref: str) -> Version:
    """Remove one version; its objects stay until `gc`.

    Raises:
        UserError: `ref` names no version, or not one by its number.
    """
    version = store.resolve(ref)
    if ref != version.ref:
        raise UserError(f"{ref} stands for the latest version: name the one to remove, such as data.ref={version.ref}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    tombstone = sealed({"name": version.name, "version": version.version, "removed": now})
    store.objects.replace(manifest_key(version.name, version.version), tombstone)
    return version


@dataclass(frozen=True)
class Freed:
    """What a gc deleted, and how many objects it had no time for."""

    objects: int
    size: int
    left: int


def gc(store: Store) -> Freed:
    """Delete all objects that no version uses, and what killed pushes left on the way into the store.

    Raises:
        BusyError: a push is at work.
        UserError: a manifest is damaged, so what it uses is unknown.
    """
    with claim(store.objects, "gc", rival="push") as mine:
        used = {object_key(entry["sha256"]) for version in store.versions() for entry in version.files.values()}
        unused = [key for key in store.objects.keys("objects") if OBJECT.fullmatch(key) and key not in used]
        began = store.objects.modified(mine.key) or 0
        for key in store.objects.keys("incoming"):
            if (written := store.objects.modified(key)) and began - written > LIFE["push"]:
                unused.append(key)

        def free(key: str) -> int | None:
            size = store.objects.size(key)
            if not mine.fresh():
                return None
            store.objects.delete(key)
            return size or 0

        with ThreadPoolExecutor(TRANSFERS) as pool:
            sizes = list(pool.map(free, unused))
    freed = [size for size in sizes if size is not None]
    return Freed(len(freed), sum(freed), len(sizes) - len(freed))
