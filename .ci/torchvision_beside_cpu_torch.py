"""Let torchvision import beside a CPU build of torch.

The torchvision wheel of the default index is built for CUDA. Beside a CPU torch it cannot load its compiled operators,
which nobody here uses, and then fails to import because two of them are not declared. Declaring them is all it takes.
Does nothing where torchvision imports already.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

DECLARATION = """

if not _has_ops():
    for _name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def imports() -> bool:
    return subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode == 0


if not imports():
    extension = Path(find_spec("torchvision").submodule_search_locations[0], "extension.py")
    original = extension.read_text(encoding="utf-8")
    if DECLARATION not in original:
        extension.write_text(original + DECLARATION, encoding="utf-8")
    if not imports():
        extension.write_text(original, encoding="utf-8")
        sys.exit("torchvision does not import: install the torchvision that belongs to this torch, then make again")
