"""Cache decoded images between runs of prepare: one SQLite file with each image's encoded row and facts.

It is committed every half second, so a killed run loses no more than that. An entry is valid while the file's name,
size and modification time, the encoding and the code that decodes are unchanged. Only prepare reads the cache; what it
writes for other stages does not depend on modification times.

Not `diskcache`: for 4,000 rows of 20 kB it took 2.3 times as long to write, 1.7 times to read and 5 times to list
facts, and it lets a second process write at the same time.
"""

import errno
import hashlib
import inspect
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
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
from PIL import Image
from tqdm import tqdm

from plant_pathology.core.errors import UserError
from plant_pathology.core.processes import cpu_count, when_parent_ends
from plant_pathology.data import shards
from plant_pathology.data.shards import encode
from plant_pathology.inference import decode as images
from plant_pathology.inference.custom import image_opener
from plant_pathology.inference.decode import ImageError, decode_with_size

COMMIT_S = 0.5
HASH_SIDE = 16  # bits along each side of a perceptual hash


class CachedImage(NamedTuple):
    """Hold what is cached of one image.

    Attributes:
        pixels: SHA-256 of the decoded square, in hex.
        phash: its perceptual hash, HASH_SIDE * HASH_SIDE bits, packed.
        width, height: of the original, upright, in pixels.
        brightness: mean over pixels and channels, 0 to 255.
        encoded: the square as a shard stores it.
    """

    pixels: str
    phash: bytes
    width: int
    height: int
    brightness: float
    encoded: bytes


FACTS = CachedImage._fields[:-1]
INSERT = f"INSERT INTO decoded (key, {', '.join(CachedImage._fields)}) VALUES (?, ?, ?, ?, ?, ?, ?)"


def decode_image(
    path: Path, side: int, encoding: str, quality: int, code: Path | None = None
) -> CachedImage | ImageError:
    """Decode one file; return its error, so that the caller can collect the errors of all files.

    Args:
        code: the competition's own code, which may open images in its own way.
    """
    try:
        pixels, (width, height) = decode_with_size(path, side, image_opener(code))
    except ImageError as error:
        return error
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    small = cv2.resize(
        pixels, (4 * HASH_SIDE, 4 * HASH_SIDE), interpolation=cv2.INTER_AREA
    )  # phash would too, but slower
    phash = np.packbits(imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE).hash).tobytes()
    return CachedImage(digest, phash, width, height, round(float(small.mean()), 1), encode(pixels, encoding, quality))


class DecodeCache:
    """An open cache; `open_decode_cache` opens it."""

    def __init__(self, database: sqlite3.Connection, side: int, encoding: str, quality: int, own: Path | None):
        self._database = database
        self._decode = partial(decode_image, side=side, encoding=encoding, quality=quality, code=own)
        code = [inspect.getsource(part) for part in (images, shards, decode_image)]
        code += [own.read_text(encoding="utf-8")] if own else []
        libraries = [PIL.__version__, cv2.__version__, imagehash.__version__]
        settings = (side, encoding, quality, HASH_SIDE, *code, *libraries)
        self._settings = hashlib.sha256(repr(settings).encode()).hexdigest()
        self._keys: dict[str, str] = {}

    def decode_missing(self, folder: Path, names: list[str], workers: int | None) -> tuple[int, dict[str, str]]:
        """Decode the images that are not in the cache yet, in parallel.

        Args:
            folder: of the images.
            names: their paths below it.
            workers: number of processes; None: one per core.

        Returns:
            How many files were not in the cache, and {name: what is wrong with it}.

        Raises:
            UserError: the system killed a worker.
        """
        self._keys = {name: self._key(folder, name) for name in names}
        known = {key for (key,) in self._database.execute("SELECT key FROM decoded")}
        todo = [name for name in names if self._keys[name] not in known]
        bad: dict[str, str] = {}
        bar = tqdm(total=len(names), initial=len(names) - len(todo), desc="decode", unit="img", disable=None)
        committed = time.monotonic()
        try:
            paths = [folder / name for name in todo]
            for name, row in zip(todo, map_in_processes(self._decode, paths, workers), strict=True):
                bar.update()
                if isinstance(row, ImageError):
                    bad[name] = row.reason
                    continue
                self._database.execute(INSERT, [self._keys[name], *row])
                if time.monotonic() - committed > COMMIT_S:
                    self._database.commit()
                    committed = time.monotonic()
        finally:
            bar.close()
            self._database.commit()
        return len(todo), bad

    def facts(self, names: Iterable[str]) -> pd.DataFrame:
        """Return one row per name, in order: all fields of `CachedImage` except `encoded`."""
        table = pd.read_sql(f"SELECT key, {', '.join(FACTS)} FROM decoded", self._database, index_col="key")
        return table.loc[[self._keys[name] for name in names]].reset_index(drop=True)

    def encoded(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield the images as shards store them, in the order of `names`."""
        for name in names:
            yield self._database.execute("SELECT encoded FROM decoded WHERE key = ?", [self._keys[name]]).fetchone()[0]

    def prune(self) -> None:
        """Delete what the last `decode_missing` did not ask for: old files, other encodings, older code."""
        known = {key for (key,) in self._database.execute("SELECT key FROM decoded")}
        stale = [(key,) for key in known - set(self._keys.values())]
        self._database.executemany("DELETE FROM decoded WHERE key = ?", stale)
        self._database.commit()

    def _key(self, folder: Path, name: str) -> str:
        status = (folder / name).stat()
        identity = (name, status.st_size, status.st_mtime_ns, self._settings)
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
            # The long column is last: SQLite reads a row from its start.
            database.execute(
                "CREATE TABLE IF NOT EXISTS decoded (key TEXT PRIMARY KEY, pixels TEXT, phash BLOB,"
                " width INTEGER, height INTEGER, brightness REAL, encoded BLOB)"
            )
            database.commit()
            yield DecodeCache(database, side, encoding, quality, own)
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
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
    pool = ProcessPoolExecutor(workers or cpu_count(), initializer=when_parent_ends, initargs=(partial(os._exit, 1),))
    try:
        yield from pool.map(job, paths, chunksize=8)
    except BrokenProcessPool:
        raise UserError(
            "the system killed a decoding process, perhaps because memory ran out: lower prepare.workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
