"""Read and write the index of prepared images, one row per image: index.csv for people, index.npy for programs.

index.npy has the same rows at a fixed width and is memory-mapped: ten million rows open at once, and only the rows
that are used are read.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from plant_pathology.core.files import atomic_file

TABLE, ARRAY = "index.csv", "index.npy"
TEACHER = "teacher.npy"  # soft labels, if there are any: (n, outputs) float32, rows as in the index
NO_FOLD = -1  # as an image's fold: all folds train on it, and none validates on it
PLACES = ["image", "labels", "fold", "group", "pixels", "shard", "row"]


def write_index(folder: Path, table: pd.DataFrame, targets: np.ndarray) -> None:
    """Write index.csv and index.npy.

    Args:
        table: image (path below the folder of the training images), labels (as text), fold, group (the position of its
            first image), pixels (SHA-256 of the decoded image, in hex), shard (number), row (within the shard).
        targets: (n,) class numbers or numbers, or (n, labels) bool; or what `pack_targets` returns.
    """
    with atomic_file(folder / TABLE) as work:
        table[PLACES].to_csv(work, index=False)
    names = np.char.encode(table["image"].to_numpy(str), "utf-8")
    packed = pack_targets(targets)
    array = np.empty(len(table), dtype(names.dtype.str, packed))
    array["image"] = names
    array["pixels"] = np.frombuffer(bytes.fromhex("".join(table["pixels"])), np.uint8).reshape(-1, 32)
    for column in ("fold", "group", "shard", "row"):
        array[column] = table[column]
    array["target"] = packed
    with atomic_file(folder / ARRAY) as work, work.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def dtype(image: str, packed: np.ndarray) -> np.dtype:
    """Return the type of a row of index.npy.

    Args:
        image: NumPy's type of the file names, such as S20.
        packed: what `pack_targets` returns.
    """
    return np.dtype(
        [
            ("image", image),
            ("pixels", np.uint8, 32),
            ("fold", np.int16),
            ("group", np.int64),
            ("shard", np.int32),
            ("row", np.int32),
            ("target", packed.dtype, packed.shape[1:]),
        ]
    )


def pack_targets(targets: np.ndarray) -> np.ndarray:
    """Return targets as index.npy holds them: sets of labels as bits, eight labels a byte; others as they are."""
    return np.packbits(targets, axis=1) if targets.dtype == bool else targets


def unpack_targets(packed: np.ndarray, labels: int) -> np.ndarray:
    """Return (n, labels) bool of sets of labels, and other targets as they are.

    Args:
        labels: their number; 0 for numbers.
    """
    return np.unpackbits(packed, axis=1, count=labels).astype(bool) if packed.ndim == 2 else packed


def read_table(path: Path) -> pd.DataFrame:
    """Read index.csv into the table that `write_index` got."""
    return pd.read_csv(path, dtype={"image": str, "labels": str, "pixels": str}, keep_default_na=False)


def open_array(path: Path) -> np.ndarray:
    """Memory-map index.npy: one structured row per image.

    Its fields: image (UTF-8), pixels (32 bytes), fold, group, shard, row and target (`unpack_targets` reads it).
    """
    return np.load(path, mmap_mode="r", allow_pickle=False)
