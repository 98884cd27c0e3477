"""Shards: plain .npy files of (rows, side, side, 3) uint8 pixels, memory-mapped, so a row costs one copy."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def shard_name(number: int) -> str:
    return f"images-{number:05d}.npy"


def write_shard(path: Path, images: Sequence[np.ndarray]) -> None:
    """Write images of one size, each (side, side, 3) uint8, as one shard."""
    content = io.BytesIO()
    np.save(content, np.stack(images), allow_pickle=False)
    # Not np.save to the path: on a full disk that raises an error which says neither.
    path.write_bytes(content.getbuffer())


class Shards:
    """Random access to the rows of many shards.

    Args:
        locate: a shard's name to its local path; called when a shard is first needed.
    """

    def __init__(self, locate: Callable[[str], Path]):
        self._locate = locate
        self._open: dict[str, np.ndarray] = {}

    def read(self, names: Sequence[str], rows: Sequence[int]) -> np.ndarray:
        """The images at (name, row), in the order asked for: (n, side, side, 3) uint8."""
        return np.stack([self._shard(name)[row] for name, row in zip(names, rows, strict=True)])

    def _shard(self, name: str) -> np.ndarray:
        if name not in self._open:
            self._open[name] = np.load(self._locate(name), mmap_mode="r", allow_pickle=False)
        return self._open[name]
