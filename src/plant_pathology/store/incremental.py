"""What a push stores of a folder, given what the latest version holds already.

A prepared folder orders its rows by the hash of their image's name, so one added image would shift all that follow.
A version keeps every row where the version before has it: its shards are referred to, neither read nor sent again.
Only new rows go to new shards, and only the index tells of it. When most rows of the kept shards would be dead, all
are packed afresh. `identity` leaves places out, so the same content is the same version however it was arranged.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pandas as pd

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.hashes import content_hash, file_hash
from plant_pathology.data.index import ARRAY, PLACES, TABLE, open_array, read_table, write_index
from plant_pathology.data.shards import Shards, shard_name, write_shard
from plant_pathology.store.keys import files_below

MANIFEST = "manifest.json"
PREPARED = {MANIFEST, TABLE, ARRAY}
PLACE = ["shard", "row"]
SETTINGS = ["image_size", "encoding", "quality", "shard_mb"]  # that rows of the same shards have in common


class Stored(Protocol):
    """A version in the store: {file: {"sha256", "size"; of a shard, "rows"}}, and a checked copy of each."""

    files: dict[str, dict]

    def sound(self) -> set[str]:
        """The files of which the store has all bytes."""

    def copy(self, file: str, target: BinaryIO) -> None:
        """Write one file's bytes to `target`. Raises: DamagedError."""


@dataclass(frozen=True)
class Arranged:
    """What a version consists of.

    Attributes:
        files: {relative path: where it lies, or the entry of what the store holds already}.
        rows: {shard: its rows, also those that the index no longer names}.
        changes: rows added, removed and changed since the version before, where that can be told.
    """

    files: dict[str, Path | dict]
    rows: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)


def content_of(folder: Path) -> "PlainFolder | PreparedFolder":
    """Raises: UserError when the folder cannot be stored."""
    paths = files_below(folder)
    return PreparedFolder(folder, paths) if paths.keys() >= PREPARED else PlainFolder(paths)


@dataclass(frozen=True)
class PlainFolder:
    """Any files, stored as they are."""

    paths: dict[str, Path]

    @cached_property
    def identity(self) -> str:
        return content_hash({file: file_hash(path) for file, path in self.paths.items()})

    def arrange(self, parent: Stored | None, work: Path) -> Arranged:
        return Arranged(dict(self.paths))

    def restore(self, version: Stored, lacking: set[str], work: Path) -> dict[str, Path]:
        return {file: self.paths[file] for file in lacking}


@dataclass(frozen=True)
class PreparedFolder:
    """What the prepare stage wrote."""

    folder: Path
    paths: dict[str, Path]

    @cached_property
    def settings(self) -> dict:
        manifest = read_json(self.paths[MANIFEST], "run prepare again")
        if absent := sorted(set(SETTINGS) - set(manifest)):
            raise UserError(f"{self.paths[MANIFEST]} has no {', '.join(absent)}: run prepare again")
        return {name: manifest[name] for name in SETTINGS}

    @cached_property
    def table(self) -> pd.DataFrame:
        table = read_table(self.paths[TABLE])
        if absent := sorted(set(PLACES) - set(table)):
            raise UserError(f"{self.paths[TABLE]} has no {', '.join(absent)}: run prepare again")
        return table

    @cached_property
    def shards(self) -> dict[str, int]:
        """{shard: its rows}, of the folder's own."""
        rows = {self._name(number): int(rows) for number, rows in self.table["shard"].value_counts().items()}
        if absent := sorted(rows.keys() - self.paths.keys()):
            raise UserError(f"{self.folder} lacks {', '.join(absent)}: run prepare again")
        return rows

    @cached_property
    def others(self) -> dict[str, Path]:
        """All files but shards and index."""
        return {file: path for file, path in self.paths.items() if file not in {TABLE, ARRAY, *self.shards}}

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for column in self.table.columns.drop(PLACE):
            values = self.table[column]
            numbers = pd.api.types.is_numeric_dtype(values)
            block = values.to_numpy("<i8").tobytes() if numbers else "\0".join(values).encode()
            digest.update(f"{column} {len(block)}\n".encode() + block)
        return content_hash({"rows": digest.hexdigest()} | {f: file_hash(path) for f, path in self.others.items()})

    def arrange(self, parent: Stored | None, work: Path) -> Arranged:
        """
        Args:
            parent: the version before.
            work: an empty folder for new files, to be kept until they are stored.

        Raises:
            DamagedError: the parent's index or manifest is not what was pushed.
        """
        sound = parent.sound() if parent else set()
        if not sound >= PREPARED:
            return self._afresh({})
        theirs = read_table(_copied(parent, TABLE, work))
        changes = count_changes(theirs, self.table)
        settings = json.loads(_copied(parent, MANIFEST, work).read_text())
        if any(settings.get(name) != value for name, value in self.settings.items()):
            return self._afresh(changes)
        places = place(self.table, theirs[theirs["shard"].map(self._name).isin(sound)])
        kept = {self._name(number): number for number in places["shard"].unique() if number >= 0}
        entries = {file: parent.files[file] for file in kept}
        if 2 * (places["shard"] >= 0).sum() < sum(entry["rows"] for entry in entries.values()) or not kept:
            return self._afresh(changes)
        rows = {file: entry["rows"] for file, entry in entries.items()}
        for number, members in self._pack(places, theirs["shard"].max() + 1):
            places.loc[members, "shard"], places.loc[members, "row"] = number, np.arange(len(members))
            rows[self._name(number)] = len(members)
            entries[self._name(number)] = self._write(number, members, work)
        return Arranged(self.others | self._write_index(places, work) | entries, rows, changes)

    def restore(self, version: Stored, lacking: set[str], work: Path) -> dict[str, Path]:
        """What the store lost of a version of this content, as far as it can be made again: not a shard with rows that
        the version no longer names."""
        restored = {file: path for file, path in self.paths.items() if file in lacking}
        if standing := {TABLE, ARRAY} - lacking:
            index = _copied(version, standing.pop(), work)
            places = read_table(index)[PLACE] if index.suffix == ".csv" else pd.DataFrame(open_array(index)[PLACE])
            restored |= self._write_index(places, work)
            for number, members in places.sort_values(PLACE).groupby("shard").groups.items():
                if self._name(number) in lacking:
                    restored[self._name(number)] = self._write(number, members, work)
        return {file: restored[file] for file in lacking & restored.keys()}

    def _afresh(self, changes: dict[str, int]) -> Arranged:
        return Arranged(dict(self.paths), self.shards, changes)

    def _pack(self, places: pd.DataFrame, number: int) -> Iterator[tuple[int, pd.Index]]:
        """Shards from `number` on for the rows without a place, in the folder's order: a random one."""
        new = self.table.loc[places["shard"] < 0, PLACE].sort_values(PLACE)
        sizes = np.array([len(row) for row in self._rows(new.index)], np.int64)
        full = np.ceil(np.cumsum(sizes) / (self.settings["shard_mb"] * 1e6)).astype(int)
        for offset, members in enumerate(new.groupby(full).groups.values()):
            yield number + offset, members

    def _write(self, number: int, members: pd.Index, work: Path) -> Path:
        path = work / self._name(number)
        write_shard(path, list(self._rows(members)), self.settings["image_size"])
        return path

    def _write_index(self, places: pd.DataFrame, work: Path) -> dict[str, Path]:
        labels = [column.removeprefix("is_") for column in self.table.columns if column.startswith("is_")]
        write_index(work, self.table.assign(shard=places["shard"], row=places["row"]), labels)
        return {TABLE: work / TABLE, ARRAY: work / ARRAY}

    def _rows(self, members: pd.Index) -> Iterator[bytes]:
        """Rows of the folder as they are encoded."""
        shards = Shards(self.folder.joinpath)
        for number, row in self.table.loc[members, PLACE].itertuples(index=False):
            yield shards.bytes(self._name(number), row)

    def _name(self, number: int) -> str:
        return shard_name(number, self.settings["encoding"])


def place(table: pd.DataFrame, standing: pd.DataFrame) -> pd.DataFrame:
    """Where the rows of `table` stand already: `shard` and `row` by equal pixels, each place once; -1 where new."""
    keys = ["pixels", "nth"]
    mine, theirs = (rows.assign(nth=rows.groupby("pixels").cumcount()) for rows in (table, standing))
    return mine[keys].merge(theirs[keys + PLACE], "left", keys)[PLACE].fillna(-1).astype(np.int64)


def count_changes(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, int]:
    """Images added, removed, and changed in pixels or labels."""
    columns = ["image", "labels", "pixels"]
    rows = before[columns].merge(after[columns], "outer", "image", indicator=True)
    differ = (rows["labels_x"] != rows["labels_y"]) | (rows["pixels_x"] != rows["pixels_y"])
    sides = rows["_merge"]
    return {
        "added": int((sides == "right_only").sum()),
        "removed": int((sides == "left_only").sum()),
        "changed": int((differ & (sides == "both")).sum()),
    }


def _copied(version: Stored, file: str, work: Path) -> Path:
    path = work / f"stored-{file}"
    with path.open("wb") as target:
        version.copy(file, target)
    return path
