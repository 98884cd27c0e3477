"""Describe faults that users meet, try each with the real command line, and print them as a table for the docs.

A room's tests/<room>/test_faults.py lists its faults in `FAULTS` and tries each with `check`. docs/reliability.md shows
all lists; `python tests/support/fault_table.py` writes them there. docs/mistakes.md has those that people cause, each
with the whole message, which `check` compares.
"""

import hashlib
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "reliability.md"
MISTAKES = PROJECT / "docs" / "mistakes.md"
WRITE = (
    "WRITE_MISTAKES"  # a variable of the environment: write the messages into docs/mistakes.md as the tests get them
)
# Topics of docs/mistakes.md: which kinds of faults are what people do wrong.
TOPICS = {
    "Names of settings and their values": [
        "A key that does not exist, or a value out of range",
        "A key of Lightning's Trainer that breaks a promise",
    ],
    "Files of conf/": ["A file of conf/ that cannot be read", "Keys of a competition's file"],
    "The competition's tables and images": ["Names of images", "Labels and numbers", "The form for a submission"],
    "A competition's own code": ["A competition's own code"],
    "The datastore": ["Addresses of stores", "Which version, and of what", "Verbs of datastore"],
    "Steps in another order": ["Nothing to select from", "Nothing to report"],
}
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@dataclass(frozen=True)
class Fault:
    """One fault, and what must come of it.

    Args:
        kind: what several faults have in common, in a few words: a heading of the table.
        done: what was done, such as "4,000 bytes of best.ckpt overwritten".
        command: as typed after `python -m plant_pathology.`, such as "select" or "train model.lr=-1".
        line: part of what the command prints: the error, or with exit code 0 the warning or result.
        make: makes the fault in a folder; called with it.
        code: the expected exit code.
        kept: patterns of files that must have the same bytes afterwards, such as "runs/*/best.ckpt".
        start: fixture with the folder to start from: raw, pushed, trained or packaged.
        also: checks more, after the command; called with the folder.
        slow: whether it takes more than some seconds, see the marker of that name.
    """

    kind: str
    done: str
    command: str
    line: str
    make: Callable[[Path], object] = lambda folder: None
    code: int = 1
    kept: Sequence[str] = ()
    start: str = "pushed"
    also: Callable[[Path], object] = lambda folder: None
    slow: bool = False

    def __str__(self) -> str:
        """Return the name of the test."""
        return re.sub(r"\W+", "_", f"{self.done} {self.command}")[:90]


def check(fault: Fault, folder: Path, overrides: Sequence[str] = ()) -> str:
    """Make a fault in a folder, run its command there, compare the outcome with the expected one; return the output.

    Args:
        folder: a copy that the fault may change.
        overrides: of the config, such as `support.commands.TINY`.
    """
    from support.commands import run_module

    fault.make(folder)
    before = hashes(folder, fault.kept)
    assert before or not fault.kept, f"nothing matches {fault.kept}"
    module, *arguments = shlex.split(fault.command)
    # Verbs and flags first, then the settings of all tests, which the fault's own win over.
    first = [each for each in arguments if "=" not in each]
    done = run_module(module, *first, *overrides, *(each for each in arguments if "=" in each), cwd=folder)
    output = done.stdout + done.stderr
    assert done.returncode == fault.code, output
    assert "Traceback" not in output, output
    assert fault.line in output, output
    if fault.code:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, output
        if topic_of(fault):
            # Some errors count what the lines before them name one by one.
            named = [] if fault.line in errors[0] else [each for each in output.splitlines() if fault.line in each][:1]
            told = "; ".join([*(each.strip() for each in named), errors[0].removeprefix("error: ")])
            check_mistake(fault, told.replace(f"{folder.resolve()}/", ""))
    assert hashes(folder, fault.kept) == before, f"{fault.kept} changed"
    fault.also(folder)
    return output


def topic_of(fault: Fault) -> str | None:
    """Return the topic of docs/mistakes.md that a fault belongs to; None for one that no user's mistake causes."""
    return next((topic for topic, kinds in TOPICS.items() if fault.code and fault.kind in kinds), None)


def check_mistake(fault: Fault, message: str) -> None:
    """Look for the part of a message that the table names in docs/mistakes.md, or write the message there (see WRITE).

    The rest may differ: names of images by the processor that drew them, words of other libraries by their version.
    """
    text = MISTAKES.read_text(encoding="utf-8")
    line = next((each for each in text.splitlines() if each.startswith(mistake_row(fault))), None)
    assert line, f"{MISTAKES}: a line is missing: `python {Path(__file__).name}` writes it"
    if os.environ.get(WRITE):
        MISTAKES.write_text(text.replace(line, f"{mistake_row(fault)} {cell(message)} |"), encoding="utf-8")
    else:
        known = line.removeprefix(mistake_row(fault))
        hint = f"{MISTAKES} has another message; {WRITE}=1 and -n 0 with these tests write the new ones"
        assert cell(fault.line) in known, hint


def mistake_row(fault: Fault) -> str:
    """Return how a fault's line of docs/mistakes.md begins: all but the message."""
    return f"| {cell(fault.done)} | `{cell(fault.command)}` |"


def mistakes_page(text: str) -> str:
    """Return the text of docs/mistakes.md with a line for each mistake of today's tables; known messages are kept."""
    known = {line.rsplit("` | ", 1)[0] + "` |": line for line in text.splitlines() if "` | " in line}
    faults = [fault for room in all_faults().values() for fault in room]
    parts = []
    for topic in TOPICS:
        rows = dict.fromkeys(mistake_row(fault) for fault in faults if topic_of(fault) == topic)
        lines = [known.get(row, f"{row} |") for row in rows]
        parts.append("\n".join([f"## {topic}", "", "| mistake | command | message |", "|---|---|---|", *lines]))
    start = text.index(BEGIN) + len(BEGIN)
    return text[:start] + "\n\n" + "\n\n".join(parts) + "\n\n" + text[text.index(END) :]


def no_run(folder: Path) -> None:
    """Check that no run has a folder: for `Fault.also`."""
    assert not list((folder / "runs").glob("[!.]*")), "something was started"


def hashes(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each file that matches one of the patterns, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def table(faults: Sequence[Fault]) -> str:
    """Return faults as Markdown: one table per kind."""
    parts = []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        rows = [
            f"| {cell(fault.done)} | `{cell(fault.command)}` | {fault.code} | {cell(fault.line)} |"
            f" {', '.join(f'`{pattern}`' for pattern in fault.kept)} |"
            for fault in faults
            if fault.kind == kind
        ]
        head = "| done | command | exit code | it prints | unchanged |\n|---|---|---|---|---|"
        parts.append("\n".join([f"**{kind}**", "", head, *rows]))
    return "\n\n".join(parts)


def cell(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("`", "'")


def all_faults() -> dict[str, list[Fault]]:
    """Return the faults of every room, by the room's name."""
    rooms: dict[str, list[Fault]] = {}
    for path in sorted((PROJECT / "tests").glob("*/test_*faults.py")):
        rooms.setdefault(path.parent.name, []).extend(faults_of(path))
    return rooms


def faults_of(path: Path) -> list[Fault]:
    """Return the list `FAULTS` of a test file."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module.FAULTS


def page(text: str) -> str:
    """Return the text of docs/reliability.md with all tables of faults between its two marks."""
    rooms = [f"### {room}\n\n{table(faults)}" for room, faults in all_faults().items()]
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:start] + "\n\n" + "\n\n".join(rooms) + "\n\n" + text[end:]


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT / "tests"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    MISTAKES.write_text(mistakes_page(MISTAKES.read_text(encoding="utf-8")), encoding="utf-8")
