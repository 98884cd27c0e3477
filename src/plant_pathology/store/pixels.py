"""Read some images of a version of prepared data, by their names."""

import json
from collections.abc import Iterable, Iterator

import numpy as np

from plant_pathology.data.index import ARRAY, open_array
from plant_pathology.data.shards import Shards, shard_name
from plant_pathology.store.version import Version


def read_pixels(version: Version, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names that the version has, each with its image as networks see it, (side, side, 3) uint8 RGB."""
    encoding = json.loads(version.open("manifest.json").read_text(encoding="utf-8"))["encoding"]
    index = open_array(version.open(ARRAY))
    wanted = np.array(sorted(name.encode() for name in set(names)), dtype=index["image"].dtype)
    rows = index[np.isin(index["image"], wanted)]
    shards = [shard_name(number, encoding) for number in rows["shard"]]
    images = Shards(version.open).pixels(shards, rows["row"].tolist())
    return zip((name.decode() for name in rows["image"]), images, strict=True)
