"""Write a bundle, or change one, as `select` would have written it."""

import json
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file

from plant_pathology.core.hashes import sealed
from plant_pathology.core.sealed import write_sealed

SIDE = 256
LABELS = ["complex", "frog_eye_leaf_spot", "healthy", "powdery_mildew", "rust", "scab"]


def change_bundle(folder: Path, **changed: Any) -> None:
    """Change keys of bundle.json, with a checksum that fits."""
    path = folder / "bundle.json"
    spec = json.loads(path.read_text())
    del spec["seal"]
    path.unlink()  # it may be a link
    path.write_bytes(sealed(spec | changed))


def write_bundle(root: Path, architecture: str, views: int) -> None:
    """Write the bundle of one network with new weights, for images of SIDE pixels."""
    network = timm.create_model(architecture, num_classes=len(LABELS))
    save_file(network.state_dict(), root / "network.safetensors")
    member = {"architecture": architecture, "weights": "network.safetensors", "weight": 1.0, "views": views}
    write_sealed(
        root / "bundle.json",
        {
            "files": {},
            "kind": "several",
            "outputs": len(LABELS),
            "scale": None,
            "test": {"form": "sample_submission.csv", "files": "test_images/{image}"},
            "answers": {"as_": "labels", "labels": LABELS, "separator": " ", "positive": None},
            "decision": {"by": "thresholds", "values": [0.5] * len(LABELS), "empty": False},
            "fallback": [[True] + [False] * (len(LABELS) - 1)],
            "members": [{**member, "image_size": SIDE, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}],
        },
    )
