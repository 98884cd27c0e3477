"""Say what a file is by its first bytes, where it is no image or table that can be read, and what to do about it."""

from pathlib import Path

OWN = "open it in competitions/<name>.py (open_image)"
HEAD = 512  # bytes that are read
# Images and measurements that Pillow does not read: where the mark is, the mark, the name.
PICTURES = (
    (128, b"DICM", "DICOM"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftypcrx", "a raw file of a camera"),
    (4, b"ftyp", "a video"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"v/1\x01", "OpenEXR"),
)
# What stands in a file's place when copying or downloading it went wrong: the mark, what it is, the remedy.
IN_ITS_PLACE = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file", "get it with `git lfs pull`"),
    (b"<!doctype html", "a web page, as for those who are not logged in", "download it again"),
    (b"<html", "a web page, as for those who are not logged in", "download it again"),
    (b"<?xml", "XML, as in a server's message", "download it again"),
    (b'{"code', "a server's message", "download it again"),
    (b"pk\x03\x04", "a ZIP archive or an Excel table", "unpack it, or save the table as CSV"),
    (b"par1", "a Parquet file", "save it as CSV (pandas.read_parquet and to_csv)"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
)


def unreadable_picture(path: Path) -> str | None:
    """Return what a file is that Pillow does not take for an image, with a remedy; None if its kind is unknown."""
    head = read_head(path)
    name = next((name for at, mark, name in PICTURES if head[at:].startswith(mark)), None)
    return f"{name}, which Pillow cannot read: {OWN}" if name else in_its_place(path)


def in_its_place(path: Path) -> str | None:
    """Return what is in the place of a file that was to be copied or downloaded, with a remedy; None: nothing known."""
    head = read_head(path)
    if head and not head.strip(b"\0"):
        return "nothing but zeros, as after a crash or on a full disk: copy it again"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = next(((what, remedy) for mark, what, remedy in IN_ITS_PLACE if text.startswith(mark)), None)
    return ": ".join(found) if found else None


def read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)
