"""Write and check the wheels of a dataset: pure Python, imported on Kaggle straight from their path.

The same content gives the same bytes on any machine, so that a rehearsal, DVC and Kaggle agree on hashes. For that
reason `wheel.wheelfile.WheelFile` is not used: it stamps RECORD with the current time unless SOURCE_DATE_EPOCH is set
for the whole process.
"""

import ast
import base64
import csv
import hashlib
import io
import sys
import zipfile
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import visible_files

# Files that an installer adds to a distribution; they differ between machines.
INSTALLED = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
# Python versions that Kaggle's image may have: Kaggle changes it without notice.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
KAGGLE = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}


def wheel_of_installed(name: str, folder: Path) -> Path:
    """Write an installed pure-Python distribution into `folder` as a wheel.

    Raises:
        UserError: it was installed without a wheel, so nothing says what belongs to it; or it is not pure Python, so
            Kaggle's interpreter could not import it from a path.
    """
    distribution = metadata.distribution(name)
    wheel = distribution.read_text("WHEEL")
    if wheel is None:
        raise UserError(
            f"{name} was installed without a wheel, as pip before 23.1 does: {sys.executable} -m pip install"
            f" --use-pep517 --force-reinstall --no-deps {name}=={distribution.version}"
        )
    if "Root-Is-Purelib: true" not in wheel:
        raise UserError(
            f"{name} is not pure Python, so Kaggle cannot import it from a wheel's path: remove it from BROUGHT in"
            " kernel/build.py"
        )
    files = {
        str(path): Path(str(path.locate())).read_bytes()
        for path in distribution.files or []
        if not str(path).startswith("..") and path.name not in INSTALLED and path.suffix != ".pyc"
    }
    return write_wheel(distribution.metadata["Name"], distribution.version, files, folder)


def wheel_of_room(package: Path, room: str, folder: Path) -> Path:
    """Write one subpackage of an installed package as a wheel that requires the distributions that it imports.

    Args:
        package: folder of the installed package; its name is also the distribution's name.
        room: name of the subpackage; of the package itself only the empty __init__.py is included.
        folder: where the wheel is written.
    """
    modules = [package / "__init__.py", *visible_files(package / room, "*.py")]
    return wheel_of_modules(package, modules, imported_distributions(modules, package.name), folder)


def wheel_of_modules(package: Path, modules: list[Path], requires: list[str], folder: Path) -> Path:
    """Write modules of an installed package as a wheel.

    Args:
        package: folder of the installed package; its name is also the distribution's name.
        modules: files of the package.
        requires: distributions that the wheel's metadata names as required.
        folder: where the wheel is written.
    """
    name = package.name
    whole = metadata.distribution(name)
    info = f"{name}-{whole.version}.dist-info"
    about = [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {whole.version}",
        f"License-Expression: {license_of(whole)}",
        f"Requires-Python: >={PYTHONS[0]}",
        *(f"Requires-Dist: {each}" for each in requires),
    ]
    files = {f"{name}/{path.relative_to(package).as_posix()}": path.read_bytes() for path in modules} | {
        f"{info}/METADATA": "\n".join([*about, ""]).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: plant_pathology\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return write_wheel(name, whole.version, files, folder)


def imported_distributions(modules: list[Path], package: str) -> list[str]:
    """Return the distributions that the modules import, without the standard library and `package` itself."""
    tops = set()
    for node in (node for module in modules for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            tops |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            tops.add(node.module.partition(".")[0])
    known = metadata.packages_distributions()
    return sorted({known.get(top, [top])[0] for top in tops - sys.stdlib_module_names - {package}})


def write_wheel(name: str, version: str, files: dict[str, bytes], folder: Path) -> Path:
    """Write a wheel and its RECORD, by the binary distribution format (PEP 427).

    Args:
        files: content by path in the wheel; METADATA and WHEEL included, RECORD not.
    """
    info = next(path.split("/")[0] for path in files if path.split("/")[0].endswith(".dist-info"))
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_in_wheel, content in sorted((files | {f"{info}/RECORD": record_of(files, info)}).items()):
            entry = zipfile.ZipInfo(name_in_wheel, date_time=(1980, 1, 1, 0, 0, 0))
            # Stored: builds of zlib deflate the same content to different bytes. 3: Unix, whatever system this is.
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_STORED, 3, 0o644 << 16
            wheel.writestr(entry, content)
    return path


def record_of(files: dict[str, bytes], info: str) -> bytes:
    """Return the RECORD of a wheel: path, SHA-256 and size of each file, sorted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for path, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(content)])
    writer.writerow([f"{info}/RECORD", "", ""])
    return text.getvalue().encode()


def wheels_in(folder: Path) -> list[metadata.Distribution]:
    """Read the metadata of the wheels in a folder."""
    return list(metadata.distributions(path=[str(path) for path in sorted(folder.glob("*.whl"))]))


def check_wheels(wheels: list[metadata.Distribution], image: Collection[str]) -> None:
    """Check that every wheel supports all of PYTHONS, and that its requirements are among the wheels or in the image.

    Args:
        image: normalized names of the distributions in Kaggle's image.

    Raises:
        UserError: a wheel refuses one of PYTHONS or requires a distribution that Kaggle would lack.
    """
    available = {canonicalize_name(wheel.name) for wheel in wheels} | set(image)
    for wheel in wheels:
        admitted = SpecifierSet(field_of(wheel, "Requires-Python") or "")
        if refused := [python for python in PYTHONS if python not in admitted]:
            raise UserError(
                f"{wheel.name} {wheel.version} refuses Python {', '.join(refused)}, which Kaggle's image may have:"
                " install another version of it"
            )
        for required in map(Requirement, wheel.requires or []):
            if applies(required) and canonicalize_name(required.name) not in available:
                raise UserError(
                    f"{wheel.name} {wheel.version} requires {required.name}, which Kaggle's image is not known to have:"
                    " add it to BROUGHT in kernel/build.py, or to IMAGE in kernel/kaggle_image.py if the image has it"
                )


def applies(required: Requirement) -> bool:
    """Whether a requirement holds on Kaggle with any of PYTHONS."""
    environments = ({**KAGGLE, "python_version": python, "python_full_version": f"{python}.0"} for python in PYTHONS)
    return required.marker is None or any(map(required.marker.evaluate, environments))


def license_of(distribution: metadata.Distribution) -> str:
    return field_of(distribution, "License-Expression") or field_of(distribution, "License") or "not stated"


def field_of(distribution: metadata.Distribution, name: str) -> str | None:
    """Return the first value of a metadata field; None where it is absent, for which indexing may raise KeyError."""
    values = distribution.metadata.get_all(name)
    return values[0] if values else None
