"""Cache decoded images between runs of prepare: one SQLite file with each image's encoded row and facts.

It is committed every half second, so a killed run loses no more than that. An entry is valid for the same bytes on the
same disk: the file's name, size, inode and times, of which no program can set the time of change (ctime); the encoding;
and the code and libraries that decode. Each entry is sealed by checksums, which are compared whenever it is read. Only
prepare reads the cache; what it writes for other stages does not depend on times.

Not `diskcache`: for 4,000 rows of 20 kB it took 2.3 times as long to write, 1.7 times to read and 5 times to list
facts, and it lets a second process write at the same time.
"""

import errno
import hashlib
import inspect
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import imagehash
import numpy as np
import pandas as pd
import PIL
import scipy
from PIL import Image, features
from tqdm import tqdm

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.processes import cpu_count, when_parent_ends
from plant_pathology.data import shards
from plant_pathology.data.shards import encode
from plant_pathology.inference import decode as images
from plant_pathology.inference.custom import image_opener
from plant_pathology.inference.decode import ImageError, decode_with_original

COMMIT_S = 0.5
HASH_SIDE = 16  # bits along each side of a perceptual hash


class CachedImage(NamedTuple):
    """Hold what is cached of one image.

    Attributes:
        pixels: SHA-256 of the decoded square, in hex.
        phash: its perceptual hash, HASH_SIDE * HASH_SIDE bits, packed.
        width, height: of the original, upright, in pixels.
        brightness: mean over pixels and channels, 0 to 255.
        highest: the highest value of a pixel in any channel.
        spread: between the lowest and the highest value of a channel, of the channel where it is largest.
        deep: the original has more than 8 bits per channel.
        checksum: SHA-256 of `encoded`, in hex.
        encoded: the square as a shard stores it.
    """

    pixels: str
    phash: bytes
    width: int
    height: int
    brightness: float
    highest: int
    spread: int
    deep: int
    checksum: str
    encoded: bytes


FACTS = CachedImage._fields[:-1]
# The long column is last: SQLite reads a row from its start.
COLUMNS = ("key", "seal", *CachedImage._fields)
LAYOUT = 2  # of the table; a file of another layout begins anew


def decode_image(
    path: Path, side: int, encoding: str, quality: int, code: Path | None = None
) -> CachedImage | ImageError:
    """Decode one file; return its error, so that the caller can collect the errors of all files.

    Args:
        code: the competition's own code, which may open images in its own way.
    """
    try:
        pixels, (width, height, deep) = decode_with_original(path, side, image_opener(code))
    except ImageError as error:
        return error
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    small = cv2.resize(
        pixels, (4 * HASH_SIDE, 4 * HASH_SIDE), interpolation=cv2.INTER_AREA
    )  # phash would too, but slower
    phash = np.packbits(imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE).hash).tobytes()
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    row = encode(pixels, encoding, quality)
    return CachedImage(
        pixels=digest,
        phash=phash,
        width=width,
        height=height,
        brightness=round(float(small.mean()), 1),
        highest=int(high.max()),
        spread=int((high - low).max()),
        deep=int(deep),
        checksum=hashlib.sha256(row).hexdigest(),
        encoded=row,
    )


def seal(key: str, facts: Sequence) -> str:
    """Return the checksum of an entry's key and facts; that of the encoded image is among them."""
    return hashlib.sha256(repr((key, *facts)).encode()).hexdigest()


class DecodeCache:
    """An open cache; `open_decode_cache` opens it."""

    def __init__(
        self, path: Path, database: sqlite3.Connection, side: int, encoding: str, quality: int, own: Path | None
    ):
        self._path, self._database = path, database
        self._decode = partial(decode_image, side=side, encoding=encoding, quality=quality, code=own)
        code = [inspect.getsource(part) for part in (images, shards, decode_image)]
        code += [own.read_text(encoding="utf-8")] if own else []
        libraries = [module.__version__ for module in (PIL, cv2, imagehash, np, scipy)]
        libraries += [f"{name} {features.version(name)}" for name in features.get_supported()]
        settings = (side, encoding, quality, HASH_SIDE, *code, *libraries)
        self._settings = hashlib.sha256(repr(settings).encode()).hexdigest()
        self._keys: dict[str, str] = {}

    def missing(self, files: Mapping[str, Path]) -> list[str]:
        """Return the images that are not in the cache yet; arguments as for `decode_missing`."""
        self._keys = {name: self._key(name, path) for name, path in files.items()}
        known = {key for (key,) in self._database.execute("SELECT key FROM decoded")}
        return [name for name in files if self._keys[name] not in known]

    def decode_missing(self, files: Mapping[str, Path], workers: int | None) -> tuple[int, dict[str, str]]:
        """Decode the images that are not in the cache yet, in parallel.

        Args:
            files: the path of each image by its name.
            workers: number of processes; None: one per core.

        Returns:
            How many files were not in the cache, and {name: what is wrong with it}.

        Raises:
            UserError: the system killed a worker.
        """
        todo = self.missing(files)
        bad: dict[str, str] = {}
        bar = tqdm(total=len(files), initial=len(files) - len(todo), desc="decode", unit="img", disable=None)
        committed = time.monotonic()
        try:
            paths = [files[name] for name in todo]
            for name, row in zip(todo, map_in_processes(self._decode, paths, workers), strict=True):
                bar.update()
                if isinstance(row, ImageError):
                    bad[name] = row.reason
                    continue
                key = self._keys[name]
                values = [key, seal(key, row[:-1]), *row]
                self._database.execute(f"INSERT INTO decoded VALUES ({', '.join('?' * len(values))})", values)
                if time.monotonic() - committed > COMMIT_S:
                    self._database.commit()
                    committed = time.monotonic()
        finally:
            bar.close()
            self._database.commit()
        return len(todo), bad

    def facts(self, names: Iterable[str]) -> pd.DataFrame:
        """Return one row per name, in order: all fields of `CachedImage` except `encoded`.

        Raises:
            DamagedError: an entry is not as it was written.
        """
        stored = {
            key: facts if sealed == seal(key, facts) else None
            for key, sealed, *facts in self._database.execute(f"SELECT key, seal, {', '.join(FACTS)} FROM decoded")
        }
        rows = [stored.get(self._keys[name]) for name in names]
        if None in rows:
            raise self._damaged()
        return pd.DataFrame(rows, columns=pd.Index(FACTS))

    def encoded(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield the images as shards store them, in the order of `names`.

        Raises:
            DamagedError: an image is not as it was written.
        """
        for name in names:
            row = self._database.execute(
                "SELECT checksum, encoded FROM decoded WHERE key = ?", [self._keys[name]]
            ).fetchone()
            if row is None or not isinstance(row[1], bytes) or hashlib.sha256(row[1]).hexdigest() != row[0]:
                raise self._damaged()
            yield row[1]

    def prune(self) -> None:
        """Delete what the last `decode_missing` did not ask for: old files, other encodings, older code."""
        known = {key for (key,) in self._database.execute("SELECT key FROM decoded")}
        stale = [(key,) for key in known - set(self._keys.values())]
        self._database.executemany("DELETE FROM decoded WHERE key = ?", stale)
        self._database.commit()

    def _damaged(self) -> DamagedError:
        return DamagedError(f"{self._path} is damaged: delete it, and its images are decoded again")

    def _key(self, name: str, path: Path) -> str:
        try:
            status = path.stat()
        except OSError as error:  # such as a link to nothing, which cannot be decoded either
            return f"{name}: {error.strerror}"
        times = status.st_mtime_ns, status.st_ctime_ns
        identity = (name, status.st_size, status.st_ino, *times, self._settings)
        return hashlib.sha256(repr(identity).encode()).hexdigest()


@contextmanager
def open_decode_cache(
    path: Path, side: int, encoding: str, quality: int, own: Path | None = None
) -> Iterator[DecodeCache]:
    """Open or create the cache for images of one size and encoding, exclusively for this process.

    Args:
        own: the competition's own code.

    Raises:
        UserError: another process has it open, or it is damaged or not writable.
        OSError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=1)) as database:
            database.execute("PRAGMA auto_vacuum = FULL")
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            if database.execute("PRAGMA user_version").fetchone() != (LAYOUT,):
                database.execute("DROP TABLE IF EXISTS decoded")
                database.execute(f"CREATE TABLE decoded ({', '.join(COLUMNS)}, PRIMARY KEY (key))")
                database.execute(f"PRAGMA user_version = {LAYOUT}")
            database.commit()
            yield DecodeCache(path, database, side, encoding, quality, own)
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if code == sqlite3.SQLITE_BUSY:
            raise UserError(f"{path} is in use: wait until the other prepare ends") from error
        raise UserError(
            f"{path}: {error}; make its folder writable, or delete the file, and its images are decoded again"
        ) from error


def map_in_processes(
    job: Callable[[Path], CachedImage | ImageError], paths: list[Path], workers: int | None
) -> Iterator[CachedImage | ImageError]:
    """Yield the result of `job` for each path, in order, computed by `workers` processes (None: one per core).

    Raises:
        UserError: the system killed a process.
    """
    if not paths:
        return
    # If this process is killed, its workers would wait for work forever.
    pool = ProcessPoolExecutor(workers or cpu_count(), initializer=begin_worker)
    try:
        yield from pool.map(job, paths, chunksize=8)
    except BrokenProcessPool:
        raise UserError(
            "the system killed a decoding process, perhaps because memory ran out: lower prepare.workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def begin_worker() -> None:
    """End with the parent, also when that is killed, and leave it to the parent to end on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    when_parent_ends(partial(os._exit, 1))
