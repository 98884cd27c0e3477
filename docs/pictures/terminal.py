"""Draw what commands print in a terminal as an SVG, from a real run of them.

    python docs/pictures/terminal.py docs/pictures/pipeline.svg "python -m plant_pathology"

Each argument after the file is a command; it runs in the current folder, in a terminal of 100 columns.
"""

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS = 100
# Without a font from the internet, which rich's own template loads: the page of a repository shows none.
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [(13, 17, 23), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207)]
    + [(177, 186, 196)],
)


def printed(command: str) -> str:
    """Run a command in a terminal of its own, and return what it prints; a failed command ends this program."""
    ours, its = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    with subprocess.Popen(shlex.split(command), stdin=its, stdout=its, stderr=its, env=environment) as running:
        os.close(its)
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    if running.returncode:
        sys.exit(f"error: {command} failed: it exited with {running.returncode}")
    return b"".join(parts).decode(errors="replace").replace("\r\n", "\n")


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    path, *commands = sys.argv[1:]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        for command in commands:
            console.print(Text(f"$ {command}", "bold"))
            console.print(Text.from_ansi(printed(command).rstrip()))
        svg = console.export_svg(title="plant_pathology", theme=THEME)
    Path(path).write_text(FONT.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
