"""Change a bundle as `select` would have written it."""

import json
from pathlib import Path
from typing import Any

from plant_pathology.core.hashes import sealed


def change_bundle(folder: Path, **changed: Any) -> None:
    """Change keys of bundle.json, with a checksum that fits."""
    path = folder / "bundle.json"
    spec = json.loads(path.read_text())
    del spec["seal"]
    path.unlink()  # it may be a link
    path.write_bytes(sealed(spec | changed))
