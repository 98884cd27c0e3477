"""Read zip, tar and 7z archives that were downloaded, and so may be damaged or hostile.

Each format lists its members, then gives their bytes in its own order; kaggle/unpack.py decides where they go. A member
has no more bytes than are listed.
"""

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

BLOCK = 2**20
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error, UnicodeDecodeError)


class DamagedArchive(Exception):
    """The archive's bytes are not what was packed."""


class UnreadableArchive(Exception):
    """The archive needs a password, or has a compression that Python cannot undo."""


@dataclass(frozen=True)
class Member:
    """A line of an archive's list.

    Args:
        name: the path in the archive, as it is written there.
        size: bytes of a file, unpacked.
        kind: file, folder, or link or device.
    """

    name: str
    size: int
    kind: str


class NewFile(Protocol):
    """Takes the bytes of one member."""

    def write(self, block: bytes, /) -> int: ...

    def finish(self) -> None:
        """Called after the last byte, once the reader found no damage."""


# From a member's name; None: the member is skipped.
Place = Callable[[str], NewFile | None]


class Archive(Protocol):
    """An archive of one of the formats below."""

    def members(self) -> Iterator[Member]:
        """List what is in the archive."""

    def extract(self, place: Place) -> None:
        """Write every file of the archive to where `place` says."""


@dataclass(frozen=True)
class Zip:
    """A zip file."""

    path: Path

    def members(self) -> Iterator[Member]:
        with damage_explained(self.path), zipfile.ZipFile(self.path) as content:
            for each in content.infolist():
                if each.flag_bits & 1:
                    raise UnreadableArchive("it needs a password")
                if each.compress_type not in (
                    *(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
                    *(zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA),
                ):
                    raise UnreadableArchive(f"Python cannot undo its compression, type {each.compress_type}")
                yield Member(each.filename, each.file_size, self.kind(each))

    def kind(self, member: zipfile.ZipInfo) -> str:
        # Zip files made on Windows may have backslashes, and no Unix mode, which is then 0.
        if member.filename.endswith(("/", "\\")):
            return "folder"
        return "file" if stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG) else "link or device"

    def extract(self, place: Place) -> None:
        with damage_explained(self.path), zipfile.ZipFile(self.path) as content:
            for each in content.infolist():
                if self.kind(each) == "file" and (new := place(each.filename)):
                    with content.open(each) as source:
                        shutil.copyfileobj(source, new, BLOCK)
                    new.finish()


@dataclass(frozen=True)
class Tar:
    """A tar file, compressed or not."""

    path: Path

    def members(self) -> Iterator[Member]:
        with damage_explained(self.path), tarfile.open(self.path) as content:
            for each in self.headers(content):
                yield Member(each.name, each.size, self.kind(each))
            self.check_end(content)

    def headers(self, content: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        while each := content.next():
            yield each
            # The list of all would take a kilobyte a member.
            content.members.clear()  # type: ignore[attr-defined]  # in no type stub, but in the documented idiom

    def check_end(self, content: tarfile.TarFile) -> None:
        """Check that the archive ends where its list does: tarfile takes a damaged header for the end."""
        file: Any = content.fileobj
        file.seek(content.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise DamagedArchive("a header is damaged")
        while file.read(BLOCK):  # the checksum of compressed files is at their end
            pass

    def kind(self, member: tarfile.TarInfo) -> str:
        return "folder" if member.isdir() else "file" if member.isreg() else "link or device"

    def extract(self, place: Place) -> None:
        with damage_explained(self.path), tarfile.open(self.path) as content:
            for each in self.headers(content):
                if each.isreg() and (new := place(each.name)):
                    source = content.extractfile(each)
                    assert source is not None  # because of isreg
                    shutil.copyfileobj(source, new, BLOCK)
                    new.finish()


@dataclass(frozen=True)
class SevenZip:
    """A 7z file."""

    path: Path

    def members(self) -> Iterator[Member]:
        with self.opened() as content:
            for each in content.list():
                kind = "folder" if each.is_directory else "file" if each.is_file else "link or device"
                yield Member(each.filename, each.uncompressed, kind)

    def extract(self, place: Place) -> None:
        from py7zr.io import NullIO, Py7zIO, WriterFactory

        class Written(Py7zIO):
            """A member as py7zr writes it; it checks the member after it closed this, so that we finish it later."""

            def __init__(self, new: NewFile) -> None:
                self.new = new

            def write(self, s: bytes | bytearray) -> int:
                return self.new.write(bytes(s))

            def read(self, size: int | None = None) -> bytes:
                return b""

            def seek(self, offset: int, whence: int = 0) -> int:
                return 0

            def flush(self) -> None:
                pass

            def size(self) -> int:
                return 0

        class Writers(WriterFactory):
            latest: NewFile | None = None

            def create(self, filename: str) -> Py7zIO:
                self.finish()
                self.latest = place(filename)
                return Written(self.latest) if self.latest else NullIO()

            def finish(self) -> None:
                if self.latest:
                    self.latest.finish()
                self.latest = None

        with self.opened() as content:
            writers = Writers()
            content.extractall(factory=writers)
            writers.finish()

    @contextmanager
    def opened(self) -> Iterator[Any]:
        # Imported here: few competitions need it.
        import py7zr

        # Of a file, not a path: with a path, threads would write several members at once.
        with self.path.open("rb") as file, damage_explained(self.path, py7zr.exceptions.ArchiveError):
            try:
                with py7zr.SevenZipFile(file) as content:
                    if content.needs_password():
                        raise UnreadableArchive("it needs a password")
                    yield content
            except py7zr.exceptions.PasswordRequired:
                raise UnreadableArchive("it needs a password") from None
            except py7zr.exceptions.UnsupportedCompressionMethodError as error:
                raise UnreadableArchive(f"Python cannot undo its compression, {error}") from None


FORMATS: dict[str, Callable[[Path], Archive]] = {
    ".zip": Zip,
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), Tar),
    ".7z": SevenZip,
}


def suffix_of(path: Path) -> str | None:
    """Return the suffix by which a file is an archive; None: it is none."""
    for suffix in FORMATS:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    return None


def archive_of(path: Path) -> Archive:
    """Return the reader for an archive, by the suffix of its name."""
    return FORMATS[suffix_of(path) or path.suffix](path)


@contextmanager
def damage_explained(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn what the readers raise about damaged bytes into a DamagedArchive; a full disk passes.

    Args:
        errors: more of what the reader raises.
    """
    damage: tuple[type[Exception], ...] = (*DAMAGE, *errors)
    try:
        yield
    except damage as error:
        raise DamagedArchive(f"{type(error).__name__}: {error}") from None
    except OSError as error:
        # gzip and bz2 raise it without a number; zipfile seeks to where no byte can be.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise DamagedArchive(str(error)) from None
    except NotImplementedError as error:  # zipfile
        raise UnreadableArchive(str(error)) from None
