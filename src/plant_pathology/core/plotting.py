"""Set the style of figures, and save equal figures as equal bytes.

Colors differ in lightness or are those of Okabe and Ito (2008), so that color-blind readers can distinguish them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = "#1f2328"  # of text and lines; the report replaces it by the page's text color
SOFT = "#59636e"  # of text of less weight; the report replaces it, too
MUTED = "#8a929b"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MAP = "YlGn"
NO_FORMULAS: dict[Any, Any] = {"text.parse_math": False}  # names of labels and models are none, even with a $ in them
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
    **NO_FORMULAS,
}


@contextmanager
def drawing(path: Path, width: float, height: float, origin: str) -> Iterator[Figure]:
    """Yield a figure in our style, and save it when the block ends.

    Args:
        path: the .svg or .png to write.
        width, height: inches.
        origin: the competition's title, shown above the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(origin, x=0.005, ha="left", fontsize="small", color=SOFT)
        yield figure
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Save a figure as .svg or .png, without anything that differs between equal figures."""
    # By default the file holds the date, the library's version and random ids.
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
