"""Read and write shards: files of many small images, with random access to each.

Raw shards are plain .npy files of (rows, side, side, 3) uint8 pixels, memory-mapped, so reading a row is one copy. JPEG
shards are plain .zip files with one uncompressed .jpg member per row: an eighth of the bytes to push and fetch, at the
cost of one decode per row. Equal rows make equal files.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = {"raw": ".npy", "jpeg": ".zip"}
OPEN = 128  # shards open at once: each takes a file descriptor; many systems allow 1,024 per process, macOS 256
HEADER = 30  # bytes of a zip member's local header before its name


def shard_name(number: int, encoding: str) -> str:
    return f"images-{number:06d}{SUFFIXES[encoding]}"


def encode(pixels: np.ndarray, encoding: str, quality: int) -> bytes:
    """Encode a (side, side, 3) uint8 RGB image as the bytes of one row; `quality`, 1 to 100, is for JPEG."""
    if encoding == "raw":
        return pixels.tobytes()
    # Color at full resolution: at these sizes, lesions are a few pixels wide.
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    options = (cv2.IMWRITE_JPEG_QUALITY, quality, *sampling)
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def write_shard(path: Path, rows: Sequence[bytes], side: int) -> None:
    """Write encoded rows of images of equal size as one shard; the suffix of `path` is its format."""
    content = io.BytesIO()
    if path.suffix == SUFFIXES["raw"]:
        pixels = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, side, side, 3)
        np.save(content, pixels, allow_pickle=False)
    else:
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as shard:
            for number, row in enumerate(rows):
                shard.writestr(zipfile.ZipInfo(f"{number:05d}.jpg", date_time=(1980, 1, 1, 0, 0, 0)), row)
    # Through memory: on a full disk, NumPy and zipfile raise errors that name neither the cause nor the file.
    path.write_bytes(content.getbuffer())


def write_shards(
    folder: Path,
    names: Sequence[str],
    read: Callable[[Iterable[str]], Iterable[bytes]],
    side: int,
    encoding: str,
    max_bytes: float,
) -> list[tuple[int, int]]:
    """Write images as shards, in the order of their names' hashes.

    So each shard is a random sample of all images, whatever order they came in, and a run can shuffle within the few
    shards that it has open.

    Args:
        names: image names.
        read: returns the encoded rows of images, in the order of the names that it gets.
        side: of the images, in pixels.
        encoding: a key of SUFFIXES.
        max_bytes: start a new shard when the current one has this size or more.

    Returns:
        Shard number and row within the shard per image, in the order of `names`.
    """
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    places = [(0, 0)] * len(names)
    rows: list[bytes] = []
    shard = 0
    for position, row in zip(order, read(names[i] for i in order), strict=True):
        if sum(map(len, rows)) >= max_bytes:
            write_shard(folder / shard_name(shard, encoding), rows, side)
            shard, rows = shard + 1, []
        places[position] = shard, len(rows)
        rows.append(row)
    write_shard(folder / shard_name(shard, encoding), rows, side)
    return places


class RawShard:
    """A memory-mapped .npy file of pixels."""

    def __init__(self, path: Path):
        self._pixels = np.load(path, mmap_mode="r", allow_pickle=False)

    def bytes(self, row: int) -> bytes:
        return self._pixels[row].tobytes()

    def pixels(self, row: int) -> np.ndarray:
        return self._pixels[row]


class JpegShard:
    """A memory-mapped .zip file of uncompressed members."""

    def __init__(self, path: Path):
        with zipfile.ZipFile(path) as shard:
            members = shard.infolist()
        starts = [member.header_offset + HEADER + len(member.filename) for member in members]
        self._spans = [(start, start + member.file_size) for start, member in zip(starts, members, strict=True)]
        self._content = np.memmap(path, np.uint8, mode="r")

    def bytes(self, row: int) -> bytes:
        start, end = self._spans[row]
        return self._content[start:end].tobytes()

    def pixels(self, row: int) -> np.ndarray:
        start, end = self._spans[row]
        pixels = cv2.imdecode(self._content[start:end], cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError(f"row {row} of a shard is not a JPEG image")
        return pixels


def open_shard(path: Path, name: str) -> RawShard | JpegShard:
    """Open the file at `path`, which a cache may have renamed, in the format of the suffix of `name`."""
    return RawShard(path) if name.endswith(SUFFIXES["raw"]) else JpegShard(path)


class Shards:
    """Read rows of many shards; keep the OPEN most recently used ones open.

    Args:
        locate: returns the local path of a shard's name; called whenever a shard is opened.
    """

    def __init__(self, locate: Callable[[str], Path]):
        self._locate = locate
        self._open: dict[str, RawShard | JpegShard] = {}

    def pixels(self, names: Sequence[str], rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the images at (name, row), in the given order, each (side, side, 3) uint8 RGB."""
        return (self._shard(name).pixels(row) for name, row in zip(names, rows, strict=True))

    def bytes(self, name: str, row: int) -> bytes:
        """Return one row as it was encoded."""
        return self._shard(name).bytes(row)

    def _shard(self, name: str) -> RawShard | JpegShard:
        shard = self._open.pop(name, None) or open_shard(self._locate(name), name)
        self._open[name] = shard
        if len(self._open) > OPEN:
            del self._open[next(iter(self._open))]
        return shard
