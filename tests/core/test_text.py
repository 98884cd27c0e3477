"""Tables in terminals of any width: names are never cut off, so that rows can be told apart."""

import pytest
from rich.console import Console

from plant_pathology.core.text import fitting_table

COLUMNS = ("run", "score", "seconds", "cost", "note")
RUNS = [f"resnet50-lr0.0005-0a15651{last}" for last in "bc"]
NOTE = "CUDA out of memory: tried to allocate 2 GB; lower data.batch_size"


@pytest.mark.parametrize(
    ("width", "note", "heads"),
    [
        (100, "", ["run", "score", "seconds"]),
        (40, "", ["run", "score"]),
        (100, NOTE, ["run", "score", "seconds", "note"]),
        (40, NOTE, ["run", "note"]),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns_and_every_name_whole(width, note, heads):
    console = Console(width=width, force_terminal=False)
    rows = [(run, "0.6687", "92", "", note) for run in RUNS]
    table = fitting_table(console, COLUMNS, rows, ("run", "note"), ("seconds", "score"))
    with console.capture() as shown:
        console.print(table)
    lines = shown.get().splitlines()
    assert [head.strip() for head in lines[1].strip("┃").split("┃")] == heads
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    first = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    assert first == "".join(RUNS)
