"""Measure the time and memory to open stores with many images: a thousand, a million and ten million rows.

    python benchmarks/scale.py

The versions are synthetic and have no pixels. The benchmark measures everything that happens before the first shard is
read, in its own process.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from plant_pathology.core.checkout import checkout
from plant_pathology.core.files import write_json
from plant_pathology.core.hashes import content_hash, file_hash
from plant_pathology.data.index import ARRAY, dtype, pack_targets
from plant_pathology.data.shards import shard_name
from plant_pathology.datastore import open_version
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.keys import manifest_key, object_key
from plant_pathology.store.store import Store
from plant_pathology.store.version import Version
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.batches import ShuffledBatches
from plant_pathology.training.data import StoredData

if sys.platform != "win32":
    import resource

ROWS = (1_000, 1_000_000, 10_000_000)
ROWS_A_SHARD, BYTES_A_SHARD = 130, 4_000_000  # as with JPEGs of 256 px


def synthetic(root: Path, rows: int) -> None:
    """Create a store at `root` with one version of `rows` rows, whose shards are listed but do not exist."""
    index = np.lib.format.open_memmap(root / ARRAY, "w+", dtype("S20", pack_targets(np.zeros((0, 6), bool))), (rows,))
    for start in range(0, rows, 1_000_000):
        part = index[start : start + 1_000_000]
        number = np.arange(start, start + len(part))
        part["image"], part["group"] = number.astype("S20"), number
        part["fold"], part["shard"], part["row"] = number % 5, number // ROWS_A_SHARD, number % ROWS_A_SHARD
        part["target"] = pack_targets(np.random.default_rng(start).random((len(part), 6)) < 0.2)
    index.flush()
    manifest = {"encoding": "jpeg", "image_size": 256, "kind": "several", "labels": list("abcdef"), "scale": None}
    write_json(root / "manifest.json", manifest)
    place = FolderBackend(root / "store")
    files = {}
    for file in (ARRAY, "manifest.json"):
        sha256 = file_hash(root / file)
        place.put(object_key(sha256), root / file, sha256)
        files[file] = {"sha256": sha256, "size": (root / file).stat().st_size}
    for number in range(-(-rows // ROWS_A_SHARD)):
        entry = {"sha256": f"{number:064x}", "size": BYTES_A_SHARD, "rows": ROWS_A_SHARD}
        files[shard_name(number, "jpeg")] = entry
    sha256 = content_hash(files)
    version = Version("plant-pathology", 1, "", "", sha256, {}, sha256, files, Store(place))
    place.create(manifest_key(version.name, version.version), version.manifest())


def open_once(root: Path) -> dict[str, float]:
    """Open the version as a run does, up to the order of the first epoch, and return the times."""
    with initialize_config_dir(str(checkout() / "conf"), version_base="1.3"):
        cfg = compose("config", [f"paths.root={root}", "data.ref=plant-pathology:1"])
    started = perf_counter()
    version = open_version(cfg)
    manifest = perf_counter()
    augment = Augment(flip=True, rotate=20, crop=0.7, brightness=0.2)
    data = StoredData(version, 0, 32, window=16, workers=0, augment=augment, seed=0)
    opened = perf_counter()
    batches = ShuffledBatches(data.training.column("shard"), 32, window=16, seed=0)
    next(iter(batches))
    return {
        "manifest, s": manifest - started,
        "index, s": opened - manifest,
        "order of an epoch, s": perf_counter() - opened,
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "manifest, MB": len(version.manifest()) / 1e6,
        "index, MB": version.files[ARRAY]["size"] / 1e6,
    }


def measure() -> dict[str, float]:
    table, found = Table("rows"), {}
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as scratch:
            synthetic(Path(scratch), rows)
            output = subprocess.check_output([sys.executable, __file__, scratch], text=True)
        found[rows] = json.loads(output.splitlines()[-1])
        if not table.rows:
            for name in found[rows]:
                table.add_column(name, justify="right")
        table.add_row(f"{rows:,}", *(f"{value:.2f}" for value in found[rows].values()))
    Console(width=110).print(table)
    million = found[ROWS[1]]
    return {
        "seconds_to_open_a_million_rows": million["manifest, s"] + million["index, s"],
        "peak_memory_of_ten_million_vs_a_thousand_rows": found[ROWS[2]]["peak memory, MB"]
        / found[ROWS[0]]["peak memory, MB"],
    }


if __name__ == "__main__":
    print(json.dumps(open_once(Path(sys.argv[1]))) if len(sys.argv) > 1 else measure())
