"""Write files and folders atomically, and read JSON with an error that names the remedy."""

import glob
import itertools
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError

ASIDE = ".damaged"  # ends the name of a file that was set aside


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` when the block succeeds and is deleted when it fails.

    Where `folder` is a link, as to a larger disk, the folder that it leads to is replaced, and the link stays.
    """
    if folder.is_symlink():
        folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    work.chmod(0o755)
    try:
        yield work
        old = work.with_name(f"{work.name}-old")
        if folder.exists():
            folder.rename(old)
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_hidden(parts: Iterable[str]) -> bool:
    """Return whether a path below a folder is hidden, or is in a hidden folder: a desktop's, an editor's or a lock."""
    return any(part.startswith(".") for part in parts)


def visible_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return all files below a folder whose names match, but hidden ones, sorted."""
    files = (path for path in folder.rglob(pattern) if not is_hidden(path.relative_to(folder).parts))
    return sorted(path for path in files if path.is_file())


def remove_leftovers(*paths: Path) -> None:
    """Remove what `atomic_folder` and `atomic_file` left beside these paths when a command was killed.

    A folder that was renamed, but not yet replaced, gets its name back. Only for who holds the lock of the folder that
    the paths are in: what another command is writing looks the same.
    """
    for path in (Path(os.path.realpath(path)) if path.is_symlink() else path for path in paths):
        for left in sorted(path.parent.glob(f".{glob.escape(path.name)}-*")):
            if left.name.endswith("-old") and not path.exists():
                left.rename(path)
            elif left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds and is deleted when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with naming(path):
            yield work
            work.replace(path)
    finally:
        work.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in an OSError of the block that names no file, as those of writing to an open file do."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def is_own(path: Path) -> bool:
    """Return whether a file is this folder's alone and may be changed in place: neither a link nor read-only.

    `dvc checkout` leaves read-only links to DVC's cache. Who writes through one gets an error or, as root, changes the
    cache.
    """
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and bool(found.st_mode & stat.S_IWUSR)


def make_own(path: Path) -> None:
    """Replace a file that is not this folder's alone by a copy that is, before it is changed in place."""
    if path.exists() and not is_own(path):
        with atomic_file(path) as work:
            shutil.copyfile(path, work)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, and return its new name: nothing is deleted because it could not be read."""
    free = (path.with_name(f"{path.name}{ASIDE}{number or ''}") for number in itertools.count())
    aside = next(each for each in free if not each.exists())
    return path.rename(aside)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as work:
        work.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON that another stage wrote.

    Args:
        remedy: what to do when the file is missing or damaged; ends the error message.

    Raises:
        UserError: the file does not exist or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): {remedy}") from None
