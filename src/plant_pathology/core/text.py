"""Make text that others wrote safe to print and to keep: names of files and labels, messages of libraries."""

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


NAME = 32  # characters of a cell beyond which it is a sentence, which may wrap


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


def fitting_table(
    console: "Console",
    columns: Sequence[str],
    rows: Sequence[Sequence["str | Text"]],
    left: Sequence[str],
    optional: Sequence[str],
    title: str | None = None,
) -> "Table":
    """Return a table that fits the console without cutting a name off, so that rows can be told apart.

    Columns without any content are left out. Where the rest is too wide, those of `optional` are, in that order; then
    text wraps.

    Args:
        columns: their heads.
        rows: one cell per column.
        left: columns whose text starts at the left; the others hold numbers.
        optional: columns that a narrow terminal can do without, the least important one first.
    """
    from rich.cells import cell_len  # here, because most commands print no table
    from rich.table import Table

    widths = {name: max(map(cell_len, [name, *(str(row[at]) for row in rows)])) for at, name in enumerate(columns)}
    shown = [name for at, name in enumerate(columns) if any(str(row[at]) for row in rows)]
    for name in optional:
        if sum(min(widths[each], NAME) + 3 for each in shown) + 1 > console.width:  # 3: the cell's blanks and its line
            shown = [each for each in shown if each != name]
    table = Table(title=title, title_justify="left")
    for name in shown:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold", no_wrap=name not in left)
    for row in rows:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in shown))
    return table


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
