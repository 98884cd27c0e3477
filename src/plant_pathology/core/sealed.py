"""Write and read JSON that holds its own checksum: whoever trusts such a file finds out that a bit of it changed."""

from pathlib import Path
from typing import Any

from plant_pathology.core.errors import DamagedError
from plant_pathology.core.files import atomic_file
from plant_pathology.core.hashes import file_hash, sealed, unsealed


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with its own checksum, atomically."""
    with atomic_file(path) as work:
        work.write_bytes(sealed(content))


def read_sealed(path: Path) -> dict[str, Any] | str:
    """Read what `write_sealed` wrote; return what is wrong with the file where that is not what it holds."""
    try:
        content = path.read_bytes()
        return unsealed(content)
    except FileNotFoundError:
        return "does not exist"
    except KeyError:
        return "has no checksum: an earlier version of the code wrote it"
    except (ValueError, TypeError, AttributeError):
        return "does not match its own checksum" if content else "is empty"


def trusted(path: Path, remedy: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Args:
        remedy: what to do when the file is missing or damaged; ends the error message.

    Raises:
        DamagedError: the file does not exist, or is not what was written.
    """
    content = read_sealed(path)
    if isinstance(content, str):
        raise DamagedError(f"{path} {content}: {remedy}")
    return content


def hashes_of(*paths: Path) -> dict[str, str]:
    """Return the SHA-256 of files by name, for a sealed file that vouches for them."""
    return {path.name: file_hash(path) for path in paths}


def check_hashes(folder: Path, hashes: dict[str, str], remedy: str) -> None:
    """Check that files still have the hashes that a sealed file gives.

    Raises:
        DamagedError: one does not exist, is empty, or has other bytes.
    """
    for name, sha256 in hashes.items():
        if wrong := difference(folder / name, sha256):
            raise DamagedError(f"{folder / name} {wrong}: {remedy}")


def difference(path: Path, sha256: str, written: str = "were written") -> str | None:
    """Return what is wrong with a file that had this hash; None if nothing is.

    Args:
        written: ends the words about other bytes, such as "the run wrote".

    Raises:
        OSError: the file cannot be read, which says nothing about its content.
    """
    try:
        if file_hash(path) == sha256:
            return None
        return f"has other bytes than {written}" if path.stat().st_size else "is empty"
    except FileNotFoundError:
        return "does not exist"
