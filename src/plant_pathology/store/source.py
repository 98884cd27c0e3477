"""Describe the files of a folder that is pushed: that they can be stored, are what prepare wrote, and do not change."""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.files import is_hidden
from plant_pathology.store.keys import check_file
from plant_pathology.store.verified import has_hash


@dataclass(frozen=True)
class Source:
    """The files below a folder, as they were when the push began.

    Attributes:
        paths: {relative path: path}, sorted.
        sums: {relative path: SHA-256} by whoever wrote the folder; may lack files.
        stamps: of `paths`, in the same order; they differ after a file was replaced or written to.
    """

    folder: Path
    paths: dict[str, Path]
    sums: dict[str, str]
    stamps: list[tuple[int, int, int]]

    def checked(self, file: str) -> Path:
        """Return the path of a file that has the bytes that were written.

        Raises:
            DamagedError: it has others.
        """
        if file in self.sums and not has_hash(self.paths[file], self.sums[file]):
            raise self._damaged(file)
        return self.paths[file]

    def check_hash(self, file: str, sha256: str) -> None:
        """Check a hash that the caller has computed, as `checked` does."""
        if self.sums.get(file, sha256) != sha256:
            raise self._damaged(file)

    def check_unchanged(self) -> None:
        """Check that all files are those that the push began with.

        Raises:
            UserError: one of them is another, so that what was read may be a mixture.
        """
        try:
            unchanged = [stamp_of(path) for path in self.paths.values()] == self.stamps
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            raise UserError(f"{self.folder} changed while it was pushed: push again when nothing writes there")

    def _damaged(self, file: str) -> DamagedError:
        self.check_unchanged()
        return DamagedError(f"{self.paths[file]} has other bytes than were written: run prepare again")


def files_below(folder: Path) -> dict[str, Path]:
    """Return {relative path: path} of all files but hidden ones, which are a desktop's or a lock, sorted.

    What is in a hidden folder, such as .ipynb_checkpoints, is hidden, too.

    Raises:
        UserError: there are none, or one cannot be stored.
    """
    below = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    paths = {file.as_posix(): path for file, path in below.items() if not is_hidden(file.parts)}
    alike: dict[str, str] = {}
    for file, path in paths.items():
        check_file(file)
        if set(file) & set('<>"|?*') or any(part.endswith((" ", ".")) for part in file.split("/")):
            raise UserError(
                f'{path}: other disks refuse this name: rename it without <>"|?*, and a dot or space at its end'
            )
        # Disks of macOS and Windows take one for the other, so a pull there would lose one.
        if (same := alike.setdefault(unicodedata.normalize("NFC", file).casefold(), file)) != file:
            raise UserError(
                f"{folder}: {same!r} and {file!r} differ in case or Unicode form alone, and some disks take one for the"
                " other: rename one"
            )
        if not path.is_file() and (path.is_symlink() or not path.is_dir()):
            raise UserError(f"{path} is neither a file nor a folder: delete it, or replace the link by a copy")
    if files := {file: path for file, path in sorted(paths.items()) if path.is_file()}:
        return files
    raise UserError(f"{folder} holds no files to push")


def stamp_of(path: Path) -> tuple[int, int, int]:
    state = os.stat(path)
    return state.st_ino, state.st_mtime_ns, state.st_size
