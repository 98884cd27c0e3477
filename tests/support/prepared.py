"""Write folders in the format of the prepare stage, in milliseconds."""

import hashlib
import json

import numpy as np
import pandas as pd

from plant_pathology.data.index import write_index
from plant_pathology.data.shards import encode, shard_name, write_shard

LABELS = ["rust", "scab"]
SIDE = 32


def picture(name):
    """Return a random picture for a name, the same each time."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def prepare(folder, images, encoding="jpeg", shard_rows=10, **settings):
    """Write a folder in the format of the prepare stage: rows in the order of their names' hashes.

    Args:
        images: {name: (picture's name, labels)}.
    """
    folder.mkdir()
    order = sorted(images, key=lambda name: hashlib.sha256(name.encode()).digest())
    rows = [encode(picture(images[name][0]), encoding, 95) for name in order]
    for start in range(0, len(rows), shard_rows):
        write_shard(folder / shard_name(start // shard_rows, encoding), rows[start : start + shard_rows], SIDE)
    places = {name: divmod(position, shard_rows) for position, name in enumerate(order)}
    table = pd.DataFrame({"image": list(images)})
    table["labels"] = [images[name][1] for name in images]
    table["pixels"] = [hashlib.sha256(picture(images[name][0]).tobytes()).hexdigest() for name in images]
    table["shard"], table["row"] = zip(*(places[name] for name in images), strict=True)
    table["fold"], table["group"] = 0, range(len(table))
    write_index(folder, table, np.array([table["labels"].eq(label) for label in LABELS]).T)
    manifest = {"image_size": SIDE, "encoding": encoding, "quality": 95, "shard_mb": 0.02}
    manifest |= {"kind": "several", "labels": LABELS, "scale": None} | settings
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def leaves(start, stop):
    return {f"{number}.jpg": (f"{number}.jpg", LABELS[number % 2]) for number in range(start, stop)}
