"""Lay out a prepared folder as a version that reuses the shards of the previous version.

A prepared folder orders its rows by the hash of the image's name, so one added image would shift all later rows and
change every shard. Therefore a version keeps each row at its place in the previous version: old shards are referred to,
neither read nor uploaded again; only new rows go into new shards; the index says where each row is. When more than half
of the rows of the reused shards are unused, the folder's own shards are uploaded instead. `identity` does not depend on
the places, so the same content is the same version, however its rows are packed.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.hashes import SUMS, content_hash, file_hash, read_sums
from plant_pathology.data.index import ARRAY, PLACES, TABLE, open_array, read_table, write_index
from plant_pathology.data.shards import Shards, shard_name, write_shard
from plant_pathology.store.source import Source, files_below, stamp_of
from plant_pathology.store.version import Version

MANIFEST = "manifest.json"
PREPARED = {MANIFEST, TABLE, ARRAY}
PLACE = ["shard", "row"]
SETTINGS = ["image_size", "encoding", "quality", "shard_mb"]  # rows of one shard must agree in these


@dataclass(frozen=True)
class Layout:
    """The files of a version that is about to be pushed.

    Attributes:
        new: {relative path: local file}, to be uploaded unless the store has the same bytes.
        reused: {relative path: entry in `Version.files`} of files of the previous version.
        rows: {shard: number of its rows, with those that the index no longer uses}.
        changes: rows `added`, `removed` and `changed` since the previous version, when both are prepared data.
    """

    new: dict[str, Path]
    reused: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)


def content_of(folder: Path) -> "PlainFolder | PreparedFolder":
    """Return the content of a folder: prepared data, or any other files.

    Raises:
        UserError: the folder cannot be stored.
    """
    paths = files_below(folder)
    is_prepared = paths.keys() >= PREPARED
    sums = read_sums(path) if is_prepared and (path := paths.pop(SUMS, None)) else {}
    if absent := sorted(sums.keys() - paths.keys()):
        raise UserError(f"{folder} lacks {', '.join(absent)}: run prepare again")
    source = Source(folder, paths, sums, [stamp_of(path) for path in paths.values()])
    return PreparedFolder(source) if is_prepared else PlainFolder(source)


@dataclass(frozen=True)
class PlainFolder:
    """A folder of any files, which are stored unchanged."""

    source: Source

    @cached_property
    def identity(self) -> str:
        return content_hash({file: file_hash(path) for file, path in self.source.paths.items()})

    def lay_out(self, parent: Version | None, work: Path) -> Layout:
        return Layout(dict(self.source.paths))

    def restore(self, version: Version, missing: set[str], work: Path) -> dict[str, Path]:
        return {file: self.source.paths[file] for file in missing}


@dataclass(frozen=True)
class PreparedFolder:
    """A folder that the prepare stage wrote."""

    source: Source

    @cached_property
    def settings(self) -> dict:
        path = self.source.checked(MANIFEST)
        manifest = read_json(path, "run prepare again")
        if absent := sorted(set(SETTINGS) - set(manifest)):
            raise UserError(f"{path} has no {', '.join(absent)}: run prepare again")
        return {name: manifest[name] for name in SETTINGS}

    @cached_property
    def table(self) -> pd.DataFrame:
        path = self.source.checked(TABLE)
        table = read_table(path)
        if absent := sorted(set(PLACES) - set(table)):
            raise UserError(f"{path} has no {', '.join(absent)}: run prepare again")
        return table

    @cached_property
    def shards(self) -> dict[str, int]:
        """Return {shard: number of its rows} of this folder."""
        rows = {self._name(number): int(rows) for number, rows in self.table["shard"].value_counts().items()}
        if absent := sorted(rows.keys() - self.source.paths.keys()):
            raise UserError(f"{self.source.folder} lacks {', '.join(absent)}: run prepare again")
        return rows

    @cached_property
    def others(self) -> dict[str, Path]:
        """Return all files except shards and index."""
        return {file: path for file, path in self.source.paths.items() if file not in {TABLE, ARRAY, *self.shards}}

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for column in self.table.columns.drop(PLACE):
            values = self.table[column]
            numbers = pd.api.types.is_numeric_dtype(values)
            block = values.to_numpy("<i8").tobytes() if numbers else "\0".join(values).encode()
            digest.update(f"{column} {len(block)}\n".encode() + block)
        return content_hash({"rows": digest.hexdigest()} | {f: file_hash(path) for f, path in self.others.items()})

    def lay_out(self, parent: Version | None, work: Path) -> Layout:
        """Decide which shards of the previous version to reuse, and write new shards and a new index.

        Args:
            parent: the previous version.
            work: an empty folder for the new files; keep it until they are uploaded.

        Raises:
            DamagedError: the parent's index or manifest has other bytes than were pushed.
        """
        complete = parent.complete_files() if parent else set()
        if parent is None or not complete >= PREPARED:
            return self._own_layout({})
        stored = read_table(_download(parent, TABLE, work))
        changes = count_changes(stored, self.table)
        settings = json.loads(_download(parent, MANIFEST, work).read_text(encoding="utf-8"))
        if any(settings.get(name) != value for name, value in self.settings.items()):
            return self._own_layout(changes)
        places = find_places(self.table, stored[stored["shard"].map(self._name).isin(complete)])
        reused = {name: parent.files[name] for name in map(self._name, places["shard"].unique()) if name in complete}
        rows = {name: entry["rows"] for name, entry in reused.items()}
        if 2 * (places["shard"] >= 0).sum() < sum(rows.values()) or not reused:
            return self._own_layout(changes)
        new = dict(self.others)
        for number, members in self._pack(places, stored["shard"].max() + 1):
            places.loc[members, "shard"], places.loc[members, "row"] = number, np.arange(len(members))
            rows[self._name(number)] = len(members)
            new[self._name(number)] = self._write_shard(number, members, work)
        return Layout(new | self._write_index(places, work), reused, rows, changes)

    def restore(self, version: Version, missing: set[str], work: Path) -> dict[str, Path]:
        """Make files again that the store lost of a version of this content.

        A shard that contains rows which the version no longer uses cannot be made again.

        Returns:
            {relative path: local file} of those that can.
        """
        restored = {file: path for file, path in self.source.paths.items() if file in missing}
        if intact := sorted({TABLE, ARRAY} - missing):
            index = _download(version, intact[0], work)
            places = read_table(index)[PLACE] if index.suffix == ".csv" else pd.DataFrame(open_array(index)[PLACE])
            restored |= self._write_index(places, work)
            for number, members in places.sort_values(PLACE).groupby("shard").groups.items():
                if self._name(number) in missing:
                    restored[self._name(number)] = self._write_shard(number, members, work)
        return {file: restored[file] for file in missing & restored.keys()}

    def _own_layout(self, changes: dict[str, int]) -> Layout:
        """Upload the folder as it is, with its own shards."""
        return Layout(dict(self.source.paths), rows=self.shards, changes=changes)

    def _pack(self, places: pd.DataFrame, number: int) -> Iterator[tuple[int, pd.Index]]:
        """Yield (number, rows) of new shards, from `number` on, for the rows without a place.

        They keep the folder's order, which is random, so each new shard is a random sample of them.
        """
        new = self.table.loc[places["shard"] < 0, PLACE].sort_values(PLACE)
        sizes = np.array([len(row) for row in self._rows(new.index)], np.int64)
        full = np.ceil(np.cumsum(sizes) / (self.settings["shard_mb"] * 1e6)).astype(int)
        for offset, members in enumerate(new.groupby(full).groups.values()):
            yield number + offset, members

    def _write_shard(self, number: int, members: pd.Index, work: Path) -> Path:
        path = work / self._name(number)
        write_shard(path, list(self._rows(members)), self.settings["image_size"])
        return path

    def _write_index(self, places: pd.DataFrame, work: Path) -> dict[str, Path]:
        targets = open_array(self.source.checked(ARRAY))["target"]
        write_index(work, self.table.assign(shard=places["shard"], row=places["row"]), targets)
        return {TABLE: work / TABLE, ARRAY: work / ARRAY}

    def _rows(self, members: pd.Index) -> Iterator[bytes]:
        """Yield the encoded bytes of rows of this folder."""
        shards = Shards(self.source.checked)
        for number, row in self.table.loc[members, PLACE].itertuples(index=False):
            yield shards.bytes(self._name(number), row)

    def _name(self, number: int) -> str:
        return shard_name(number, self.settings["encoding"])


def find_places(table: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Find where the store already has the pixels of each row.

    Args:
        table: rows to be stored, with `pixels`.
        stored: rows of the previous version, with `pixels`, `shard` and `row`.

    Returns:
        `shard` and `row` per row of `table`, -1 where the pixels are new. No place is returned twice.
    """
    keys = ["pixels", "nth"]
    wanted, known = (rows.assign(nth=rows.groupby("pixels").cumcount()) for rows in (table, stored))
    return wanted[keys].merge(known[keys + PLACE], "left", keys)[PLACE].fillna(-1).astype(np.int64)


def count_changes(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, int]:
    """Count the images that were added, removed, or changed in pixels or labels."""
    columns = ["image", "labels", "pixels"]
    rows = before[columns].merge(after[columns], "outer", "image", indicator=True)
    differ = (rows["labels_x"] != rows["labels_y"]) | (rows["pixels_x"] != rows["pixels_y"])
    sides = rows["_merge"]
    return {
        "added": int((sides == "right_only").sum()),
        "removed": int((sides == "left_only").sum()),
        "changed": int((differ & (sides == "both")).sum()),
    }


def _download(version: Version, file: str, work: Path) -> Path:
    path = work / f"stored-{file}"
    with path.open("wb") as target:
        version.copy(file, target)
    return path
