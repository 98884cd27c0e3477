"""Damage a file in the ways in which files are damaged; each takes the pattern of one file below a folder."""

import os
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]


def found(folder: Path, pattern: str) -> Path:
    """Return the first file that fits a pattern."""
    return sorted(folder.glob(pattern))[0]


def missing(pattern: str) -> Damage:
    return lambda folder: found(folder, pattern).unlink()


def emptied(pattern: str) -> Damage:
    return lambda folder: rewrite(found(folder, pattern), b"")


def cut(pattern: str) -> Damage:
    """Keep the first half."""

    def damage(folder: Path) -> None:
        path = found(folder, pattern)
        rewrite(path, path.read_bytes()[: path.stat().st_size // 2])

    return damage


def flipped(pattern: str, place: float = 0.5) -> Damage:
    """Flip one bit.

    Args:
        place: of the byte, as a share of the file's length.
    """

    def damage(folder: Path) -> None:
        path = found(folder, pattern)
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 4
        rewrite(path, bytes(content))

    return damage


def replaced(pattern: str, old: str, new: str) -> Damage:
    """Replace a text by another one, wherever it is."""

    def damage(folder: Path) -> None:
        path = found(folder, pattern)
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old}"
        rewrite(path, text.replace(old, new).encode())

    return damage


def overwritten(pattern: str, content: bytes) -> Damage:
    return lambda folder: rewrite(found(folder, pattern), content)


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file, which may be read-only, and keep its time."""
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
