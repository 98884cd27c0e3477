"""The model card: what a bundle is, what it was made of, what it is for, and under which licence."""

from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2

from plant_pathology.kernel.wheels import licence_of


def model_card(spec: dict[str, Any], licence: str, wheels: list[metadata.Distribution]) -> str:
    """Fill in model_card.md from what goes along with the bundle.

    Args:
        spec: the content of bundle.json.
        licence: of the whole, as Kaggle calls it.
        wheels: each has a licence of its own.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["rounded"] = "{:.4f}".format
    return environment.get_template("model_card.md").render(
        spec=spec,
        networks=list(zip(spec["members"], spec["runs"], strict=True)),
        pretrained=any(run["config"]["model"]["pretrained"] for run in spec["runs"]),
        licence=licence,
        wheels=[f"{wheel.name} {wheel.version} ({licence_of(wheel)})" for wheel in wheels],
    )
