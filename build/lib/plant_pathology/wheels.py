"""Pure-Python wheels that Python imports straight from their path, the same bytes each time they are written."""

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

from plant_pathology.stage import StageError

# What an installer adds to a distribution, different on each machine.
INSTALLED = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}


def wheel_of_installed(name: str, folder: Path) -> Path:
    """Put an installed pure-Python distribution back into a wheel.

    Raises:
        StageError: it is not pure Python, so Kaggle's interpreter could not import it from a path.
    """
    distribution = metadata.distribution(name)
    if "Root-Is-Purelib: true" not in (distribution.read_text("WHEEL") or ""):
        raise StageError(f"{name} is not pure Python: it cannot travel as a wheel that is imported from its path")
    files = {
        str(path): path.locate().read_bytes()
        for path in distribution.files or []
        if not str(path).startswith("..") and path.name not in INSTALLED and path.suffix != ".pyc"
    }
    return write_wheel(distribution.metadata["Name"], distribution.version, files, folder)


def wheel_of_modules(name: str, version: str, modules: list[Path], folder: Path) -> Path:
    """A wheel of some modules of one package, without the rest of it."""
    info = f"{name}-{version}.dist-info"
    files = {f"{name}/{path.name}": path.read_bytes() for path in modules} | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: plant_pathology\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return write_wheel(name, version, files, folder)


def write_wheel(name: str, version: str, files: dict[str, bytes], folder: Path) -> Path:
    """Write files by their path in the wheel, with a RECORD as the wheel format (PEP 427) has it."""
    info = next(path.split("/")[0] for path in files if path.split("/")[0].endswith(".dist-info"))
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in sorted(files.items())]
    files = files | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,", ""]).encode()}
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name_in_wheel, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name_in_wheel, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            wheel.writestr(entry, content)
    return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
