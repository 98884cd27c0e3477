"""Render page.html, and inline figures into it."""

import re
from pathlib import Path
from typing import Any

import jinja2

from plant_pathology.core import plotting
from plant_pathology.kernel.package import score_told
from plant_pathology.reporting import figures
from plant_pathology.runs.status import duration
from plant_pathology.selection.axes import axis_title

MIN_WIDTH = "46rem"  # a figure does not shrink below this width; it scrolls


def render(**content: Any) -> str:
    """Fill in page.html; all text is escaped, except the figures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": figures.value, "title": axis_title, "duration": duration, "score": score_told}
    return environment.get_template("page.html").render(**content)


def inline_svg(path: Path) -> str:
    """Return an SVG for use inside the page: with the page's text colors, ids of its own, and MIN_WIDTH."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :].replace(plotting.INK, "currentColor").replace(plotting.SOFT, "var(--soft)")
    svg = re.sub(r'<svg [^>]*?width="([\d.]+pt)"', rf'\g<0> style="min-width: min({MIN_WIDTH}, \1)"', svg, count=1)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\1{path.stem}-", svg)
