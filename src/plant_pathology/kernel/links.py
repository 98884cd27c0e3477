"""Place a folder's files elsewhere, where links in it lead out of it: into DVC's cache, or to another disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def place(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system does not allow that."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def links_below(folder: Path) -> Iterator[Path]:
    """Yield the symbolic links at any depth of a folder, without those in a folder that is itself a link."""
    for parent, folders, files in os.walk(folder):
        yield from (path for name in folders + files if (path := Path(parent, name)).is_symlink())


def mounts_of(folder: Path, target: str, copies: Path, above: tuple[Path, ...] = ()) -> list[tuple[str, str]]:
    """Return the (source, target) pairs that mount a folder at `target`, each after those that it lies in.

    A link's target is not part of its folder's mount. So a folder with links is mounted as a copy, made of hard links
    where the disk allows that, and the folders in it one by one. Links to nothing are left out.

    Args:
        copies: an empty folder for the copies, on the disk of the files where possible.
        above: the folders that this one lies in; a link to one of them is left out.
    """
    folder = folder.resolve()
    if not any(links_below(folder)):
        return [(str(folder), target)]
    copy = Path(tempfile.mkdtemp(dir=copies.resolve()))
    copy.chmod(0o755)
    mounts = [(str(copy), target)]
    for entry in folder.iterdir():
        if entry.is_file():
            place(entry, copy / entry.name)
        elif entry.is_dir() and entry.resolve() not in (folder, *above):
            (copy / entry.name).mkdir()
            mounts += mounts_of(entry, f"{target}/{entry.name}", copies, (folder, *above))
    return mounts
