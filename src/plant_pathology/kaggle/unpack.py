"""Unpack a download and the archives in it, into the folders that they stand for; continue after an interruption.

A file appears at its place when all of it is written, and an archive is deleted when all of its files are there. So the
next start finds what is left to do, and skips the files that are there.
"""

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from plant_pathology.core.disk import disk_space
from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.archives import Archive, DamagedArchive, UnreadableArchive, archive_of, suffix_of

DEEPEST = 5  # archives in each other
CLUSTER = 4096  # bytes that a file takes on the disk at least, as a rule
BY_HAND = "unpack it by hand if you trust it, delete it, then run the same command again, it continues"


@dataclass(frozen=True)
class Entry:
    """A member of an archive.

    Args:
        parts: the path in the archive, checked to stay below its folder.
        size: bytes of a file, unpacked.
        is_file: a file, not a folder.
    """

    parts: tuple[str, ...]
    size: int
    is_file: bool


class PlacedFile:
    """A file that is written as `part`, and moved to its place at the end."""

    def __init__(self, place: Path, part: Path, bar: tqdm) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self.place, self.part, self.bar = place, part, bar
        self.file = part.open("wb")

    def write(self, block: bytes, /) -> int:
        self.bar.update(len(block))
        return self.file.write(block)

    def finish(self) -> None:
        self.file.close()
        self.part.replace(self.place)


def unpack(download: Path, folder: Path) -> None:
    """Unpack `download` as `folder`, then each archive in it, and delete each.

    Where `download` is gone, an earlier start has unpacked it.

    Raises:
        UserError: an archive needs more than the free disk space, leads out of its folder, has links or devices, or is
            nested too deep.
        DamagedArchive: the message names the archive.
    """
    part = folder.with_name("part")
    with tqdm(desc="unpack", total=0, unit="B", unit_scale=True, disable=None) as bar:
        if download.exists():
            try:
                unpack_archive(download, folder, part, bar)
            except UnreadableArchive as error:
                raise UserError(f"{download}: {error}: unpack it by hand, then `make repro RAW=<folder>`") from None
        waiting = deque((path, 1) for path in archives_below(folder))
        while waiting:
            path, depth = waiting.popleft()
            if depth > DEEPEST:
                raise UserError(f"{path} is in {DEEPEST} archives, one in another: {BY_HAND}")
            try:
                inner = unpack_archive(path, None, part, bar)
            except UnreadableArchive as error:
                bar.write(f"{path.relative_to(folder)} stays packed, unpack it by hand: {error}", file=sys.stderr)
            else:
                waiting.extend((each, depth + 1) for each in inner)


def archives_below(folder: Path) -> list[Path]:
    """Return the archives in a folder and its subfolders, sorted."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(filter(suffix_of, files))


def unpack_archive(path: Path, folder: Path | None, part: Path, bar: tqdm) -> list[Path]:
    """Unpack one archive without those in it, and delete it.

    Args:
        folder: where to; None: what its name and content stand for.
        part: where a file is until it is complete; on the same disk.

    Returns:
        The archives that were in it.

    Raises:
        DamagedArchive: with a message that names it.
    """
    archive = archive_of(path)
    try:
        entries = list(checked_entries(archive, path))
        folder = folder or folder_of(path, entries)
        files = [entry for entry in entries if entry.is_file]
        missing = [entry for entry in files if not folder.joinpath(*entry.parts).exists()]
        check_room(path, missing)
        bar.total += sum(entry.size for entry in missing)
        bar.refresh()
        for entry in entries:
            if not entry.is_file:
                folder.joinpath(*entry.parts).mkdir(parents=True, exist_ok=True)

        def place(name: str) -> PlacedFile | None:
            parts = parts_of(name, path)
            target = folder.joinpath(*parts)
            return None if is_clutter(parts) or target.exists() else PlacedFile(target, part, bar)

        archive.extract(place)
    except DamagedArchive as error:
        raise DamagedArchive(f"{path.name} is damaged ({error})") from None
    path.unlink()
    return [folder.joinpath(*entry.parts) for entry in files if suffix_of(Path(entry.parts[-1]))]


def checked_entries(archive: Archive, path: Path) -> Iterator[Entry]:
    """Yield what is in an archive, without what macOS adds.

    Raises:
        UserError: an entry leads out of the folder, or is a link or device; or all are larger than the whole disk, in
            which case the list is not read to its end.
    """
    size, (disk, _) = 0, disk_space(path.parent)
    for member in archive.members():
        if member.kind == "link or device":
            raise UserError(f"{path} holds {member.name!r}, a link or device, which no image is: {BY_HAND}")
        parts = parts_of(member.name, path)
        size += size_on_disk(member.size)
        if size > disk:
            raise UserError(f"{path} holds more than the whole disk, {disk / 1e9:.1f} GB: {BY_HAND}")
        if parts and not is_clutter(parts):
            yield Entry(parts, member.size, member.kind == "file")


def parts_of(name: str, path: Path) -> tuple[str, ...]:
    """Return the parts of a member's path.

    Raises:
        UserError: it leads out of the folder.
    """
    written = PureWindowsPath(name)  # takes both slashes for separators, and knows drives
    if written.anchor or ".." in written.parts or "\0" in name:
        raise UserError(f"{path} holds {name!r}, which leads out of the folder: do not use it")
    return written.parts


def is_clutter(parts: Sequence[str]) -> bool:
    """Whether macOS added this when somebody packed the archive."""
    return parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or parts[-1].startswith("._")


def folder_of(path: Path, entries: Sequence[Entry]) -> Path:
    """Return where an archive is unpacked: where a person looks for its files who knows its name.

    train.zip with train/a.jpg and all else below train/, or with train.csv alone, is unpacked where it is; with a.jpg,
    into the folder train.
    """
    stem = path.name[: -len(suffix_of(path) or "")]
    others = {entry.parts[0] for entry in entries} - {stem}
    named = len(others) <= 1 and all(other.startswith(f"{stem}.") and other != path.name for other in others)
    return path.parent if named else path.parent / stem


def check_room(path: Path, missing: Sequence[Entry]) -> None:
    """Check that the disk has room for files.

    Raises:
        UserError: it has not.
    """
    size, (_, free) = sum(size_on_disk(entry.size) for entry in missing), disk_space(path.parent)
    if size > free:
        raise UserError(
            f"{path} needs {size / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free: make room, then run"
            " the same command again, it continues"
        )


def size_on_disk(size: int) -> int:
    return -(-max(size, 1) // CLUSTER) * CLUSTER
