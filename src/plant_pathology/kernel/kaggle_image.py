"""Name the distributions of Kaggle's image that a kernel may count on, and show a kernel those and no others."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

# Of what Kaggle's image has, what a kernel may count on; with all that these require.
IMAGE = ("torch", "torchvision", "numpy", "pandas", "pillow", "safetensors", "pyyaml", "huggingface-hub", "tqdm")


def image_distributions() -> dict[str, metadata.Distribution]:
    """IMAGE and everything it requires, as installed here."""
    found: dict[str, metadata.Distribution] = {}
    wanted = list(IMAGE)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


def link_image(folder: Path) -> None:
    """A folder for sys.path that shows the image's distributions and no other."""
    folder.mkdir()
    for distribution in image_distributions().values():
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(distribution.locate_file(top)).resolve())
