"""Name the distributions of Kaggle's image that a kernel may count on, and show a kernel those and no others."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# The part of Kaggle's image that our kernel imports, or may; their requirements come with them.
IMAGE = ("torch", "torchvision", "numpy", "pandas", "pillow", "safetensors", "pyyaml", "huggingface-hub", "tqdm")


def image_distributions(also: Sequence[str] = ()) -> dict[str, metadata.Distribution]:
    """Return IMAGE, `also`, and everything they require, as installed here, by normalized name."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [*IMAGE, *also]
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


def link_image(folder: Path) -> None:
    """Create a folder for sys.path with links to the packages of the image's distributions alone."""
    folder.mkdir()
    for distribution in image_distributions().values():
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
