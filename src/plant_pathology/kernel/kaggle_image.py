"""Name the distributions of Kaggle's image that a kernel may count on, and show a kernel those and no others.

They are those installed here, or in a virtual environment that the user gives (`rehearse.python`), which may have the
image's own versions. kaggle_image.txt has the image's, as far as they are known.
"""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from plant_pathology.core.errors import UserError

# The part of Kaggle's image that our kernel imports, or may; their requirements come with them.
IMAGE = ("torch", "torchvision", "numpy", "pandas", "pillow", "safetensors", "pyyaml", "huggingface-hub", "tqdm")
VERSIONS = Path(__file__).with_name("kaggle_image.txt")
ASK = """
import json, platform, site, sys
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps([base, sys.base_prefix, platform.python_version(), site.getsitepackages()]))
"""


@dataclass(frozen=True)
class Environment:
    """An interpreter and the packages beside it, which stand for Kaggle's image in a rehearsal.

    Args:
        python: the interpreter outside of any virtual environment.
        prefix: folder of its standard library and programs.
        version: of Python, such as "3.12.1".
        packages: folders with installed distributions; None: all that this process can import.
        name: for error messages.
    """

    python: str
    prefix: str
    version: str
    packages: Sequence[str] | None = None
    name: str = "this environment"

    @classmethod
    def of(cls, python: str | None) -> "Environment":
        """Return the environment of an interpreter; of this one for None.

        Raises:
            UserError: it is none, or cannot be run.
        """
        if python is None:
            return HERE
        key = f"rehearse.python={python}"
        try:
            done = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=True)
            base, prefix, version, packages = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise UserError(
                f"{key} cannot be run ({type(error).__name__}): name bin/python of a virtual environment"
            ) from None
        return cls(base, prefix, version, packages, key)

    def distributions(self, also: Sequence[str] = ()) -> dict[str, metadata.Distribution]:
        """Return IMAGE, `also`, and everything they require, as installed there, by normalized name.

        Raises:
            UserError: one is not installed.
        """
        path = sys.path if self.packages is None else list(self.packages)
        markers = {"python_version": ".".join(self.version.split(".")[:2]), "python_full_version": self.version}
        found: dict[str, metadata.Distribution] = {}
        wanted = [*IMAGE, *also]
        while wanted:
            name = canonicalize_name(wanted.pop())
            if name in found:
                continue
            each = next(iter(metadata.distributions(name=name, path=path)), None)
            if each is None:
                raise UserError(f"{self.name} has no {name}: install it there, or all that {VERSIONS} lists")
            found[name] = each
            for line in each.requires or []:
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": "", **markers}):
                    wanted.append(requirement.name)
        return found

    def compared(self, docker_image: str | None) -> str:
        """Return one line: the versions here that differ from those of Kaggle's image, and what is not known of it."""
        text = VERSIONS.read_text(encoding="utf-8")
        day, python = re.findall(r"as of (\S+); Python (\d+\.\d+)", text)[0]
        theirs = dict(line.lower().split("==") for line in text.splitlines() if "==" in line and line[0] != "#")
        found = self.distributions()
        here = {name: Version(found[canonicalize_name(name)].version).public for name in theirs}
        differing = [f"{name} {here[name]}, not {version}" for name, version in theirs.items() if here[name] != version]
        if not self.version.startswith(f"{python}."):
            differing.insert(0, f"Python {self.version}, not {python}")
        known = f"Kaggle's image as of {day}, as far as it is known"
        if docker_image:
            known = f"{known} (the versions in package.docker_image={docker_image} are not)"
        return f"{'; '.join(differing)}: other versions than {known}" if differing else f"the versions of {known}"


# The interpreter that this virtual environment was made from, or the current one outside of any.
HERE = Environment(getattr(sys, "_base_executable", None) or sys.executable, sys.base_prefix, platform.python_version())


def link_image(folder: Path, environment: Environment = HERE) -> None:
    """Create a folder for sys.path with links to the packages of the image's distributions alone."""
    folder.mkdir()
    for distribution in environment.distributions().values():
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
