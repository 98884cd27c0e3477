"""Pure-Python wheels that Python imports straight from their path, the same bytes each time they are written."""

import ast
import base64
import hashlib
import sys
import zipfile
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from plant_pathology.core.errors import UserError

# What an installer adds to a distribution, different on each machine.
INSTALLED = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
# That Kaggle's image may have; which one it has changes without notice.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
KAGGLE = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}


def wheel_of_installed(name: str, folder: Path) -> Path:
    """Put an installed pure-Python distribution back into a wheel.

    Raises:
        UserError: it is not pure Python, so Kaggle's interpreter could not import it from a path.
    """
    distribution = metadata.distribution(name)
    if "Root-Is-Purelib: true" not in (distribution.read_text("WHEEL") or ""):
        raise UserError(f"{name} is not pure Python: it cannot travel as a wheel that is imported from its path")
    files = {
        str(path): path.locate().read_bytes()
        for path in distribution.files or []
        if not str(path).startswith("..") and path.name not in INSTALLED and path.suffix != ".pyc"
    }
    return write_wheel(distribution.metadata["Name"], distribution.version, files, folder)


def wheel_of_room(package: Path, room: str, folder: Path) -> Path:
    """Write a wheel of one subpackage of an installed package. It requires the distributions that it imports.

    Args:
        package: folder of the installed package, whose name is the distribution's.
        room: the subpackage; its parent travels as its empty __init__.py alone.
    """
    name = package.name
    modules = [package / "__init__.py", *sorted((package / room).rglob("*.py"))]
    whole = metadata.distribution(name)
    info = f"{name}-{whole.version}.dist-info"
    about = [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {whole.version}",
        f"License-Expression: {licence_of(whole)}",
        f"Requires-Python: >={PYTHONS[0]}",
        *(f"Requires-Dist: {each}" for each in imported_distributions(modules, name)),
    ]
    files = {f"{name}/{path.relative_to(package).as_posix()}": path.read_bytes() for path in modules} | {
        f"{info}/METADATA": "\n".join([*about, ""]).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: plant_pathology\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return write_wheel(name, whole.version, files, folder)


def imported_distributions(modules: list[Path], package: str) -> list[str]:
    """Names of what the modules import, besides Python's own library and the package that they are of."""
    tops = set()
    for node in (node for module in modules for node in ast.walk(ast.parse(module.read_text()))):
        if isinstance(node, ast.Import):
            tops |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            tops.add(node.module.partition(".")[0])
    known = metadata.packages_distributions()
    return sorted({known.get(top, [top])[0] for top in tops - sys.stdlib_module_names - {package}})


def write_wheel(name: str, version: str, files: dict[str, bytes], folder: Path) -> Path:
    """Write files by their path in the wheel, with a RECORD as the wheel format (PEP 427) has it."""
    info = next(path.split("/")[0] for path in files if path.split("/")[0].endswith(".dist-info"))
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in sorted(files.items())]
    files = files | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,", ""]).encode()}
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_in_wheel, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name_in_wheel, date_time=(1980, 1, 1, 0, 0, 0))
            # Not deflated: what zlib makes of the same bytes differs between its builds; nor does the system count.
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_STORED, 3, 0o644 << 16
            wheel.writestr(entry, content)
    return path


def wheels_in(folder: Path) -> list[metadata.Distribution]:
    """What the wheels of a folder say of themselves."""
    return list(metadata.distributions(path=[str(path) for path in sorted(folder.glob("*.whl"))]))


def check_wheels(wheels: list[metadata.Distribution], image: Collection[str]) -> None:
    """See that the wheels run on any of PYTHONS, beside each other and on what Kaggle's image has.

    Args:
        image: normalized names of distributions.

    Raises:
        UserError: one does not, or requires what is neither brought along nor there.
    """
    there = {canonicalize_name(wheel.name) for wheel in wheels} | set(image)
    for wheel in wheels:
        admitted = SpecifierSet(wheel.metadata.get("Requires-Python") or "")
        if refused := [python for python in PYTHONS if python not in admitted]:
            raise UserError(
                f"{wheel.name} {wheel.version} refuses Python {', '.join(refused)}, which Kaggle's image may have:"
                " install another version of it"
            )
        for required in map(Requirement, wheel.requires or []):
            if applies(required) and canonicalize_name(required.name) not in there:
                raise UserError(
                    f"{wheel.name} {wheel.version} requires {required.name}, which Kaggle's image is not known to have:"
                    " add it to BROUGHT in kernel/build.py, or to IMAGE in kernel/kaggle_image.py if the image has it"
                )


def applies(required: Requirement) -> bool:
    """Whether a requirement holds on Kaggle, with any Python that it may have."""
    environments = ({**KAGGLE, "python_version": python, "python_full_version": f"{python}.0"} for python in PYTHONS)
    return required.marker is None or any(map(required.marker.evaluate, environments))


def licence_of(distribution: metadata.Distribution) -> str:
    return distribution.metadata.get("License-Expression") or distribution.metadata.get("License") or "not stated"


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
