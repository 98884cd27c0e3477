"""The style of all figures, and how they are saved.

Colours differ in lightness, or are those of Okabe and Ito (2008), so that they can be told apart without colour vision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = "#1f2328"  # of text and lines; a page may put its own in its place
MUTED = "#8a929b"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MAP = "YlGn"
STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "font.size": 10,
    "legend.frameon": False,
    # Labels and models are names, no formulas.
    "text.parse_math": False,
}


@contextmanager
def drawing(path: Path, width: float, height: float, origin: str) -> Iterator[Figure]:
    """A figure in our style, saved when the block ends; sizes in inches, `origin`: whose images it is about."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(origin, x=0.005, ha="left", fontsize="small", color=MUTED)
        yield figure
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .svg or .png, equal figures as equal bytes."""
    # Without these, it carries the date, the library's version and random ids.
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
