"""Write the model card: what the bundle is, what it was trained on, its intended use and its license."""

from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2

from plant_pathology.kernel.wheels import license_of


def model_card(spec: dict[str, Any], license_name: str, wheels: list[metadata.Distribution]) -> str:
    """Fill in the template model_card.md.

    Args:
        spec: the content of bundle.json.
        license_name: Kaggle's name for the license of the whole dataset.
        wheels: the distributions in the dataset, each with a license of its own.
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
        license=license_name,
        wheels=[f"{wheel.name} {wheel.version} ({license_of(wheel)})" for wheel in wheels],
    )
