"""Make text that others wrote safe to print and to keep: names of files and labels, messages of libraries."""

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: str) -> str:
    """Return text whose control characters are escaped, so that it cannot move the cursor or start a line of its own.

    Kept: tabs, and a new line whose text is indented, as in the lists of our own messages.
    """
    return re.sub(r"\n(?!  )|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", _escape, text)


def one_line(text: str) -> str:
    """Return text with every run of blanks and line ends as one blank, and printable."""
    return printable(" ".join(text.split()))


def plain_console(width: int) -> "Console":
    """Return a console that prints names and messages as they are: no markup of rich in them, no emoji, no colors.

    Args:
        width: characters per line where the output is not a terminal.
    """
    from rich.console import Console  # here, because most commands print no table

    return Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False, highlight=False)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
