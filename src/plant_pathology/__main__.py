"""List the commands in the order of the pipeline, the state of what each makes, and the command to run next.

A stage is "done" if DVC knows its result and nothing that it reads has changed, "changed" if something has, and
"missing" if a file of its result is not there. A command that was typed without DVC leaves a result that DVC does not
know.
"""

import argparse
import ast
import errno
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from plant_pathology.core.checkout import checkout, require_checkout
from plant_pathology.core.ending import program
from plant_pathology.core.errors import BusyError, UserError
from plant_pathology.core.provenance import locked_stages
from plant_pathology.core.stages import PACKAGE, Stage, read_stages
from plant_pathology.core.text import plain_console

BY_HAND = "made without DVC"
RAW = "the raw images are not here"  # as on a second machine, which has all that was made of them
SHOWN = 3  # causes of a change that are named
STYLES = {"done": "green", "changed": "yellow", "missing": "red"}


@program
def main() -> None:
    parser = argparse.ArgumentParser(prog=PACKAGE.rstrip("."), description=__doc__)
    parser.parse_args()
    require_checkout()
    stages = read_stages()
    states = states_of(stages, changes())
    competition = yaml.safe_load((checkout() / "conf" / "choices.yaml").read_text(encoding="utf-8"))["competition"]
    console = plain_console(100)
    console.print(f"the pipeline, for competition {competition}; each line is a command: {PACKAGE}…", soft_wrap=True)
    console.print(table([(state, stage.typed.removeprefix(PACKAGE), why) for stage, (state, why) in states.items()]))
    console.print("\nother commands", soft_wrap=True)
    listed = {stage.command[0] for stage in stages}
    console.print(table([("", name, says) for name, says in commands().items() if name not in listed]))
    console.print(f"\nnext: {next_command(states, competition)}", soft_wrap=True)


def changes() -> dict[str, list[Any]]:
    """Return what DVC reports of each stage that is not up to date, as `dvc status --json` prints it.

    Raises:
        BusyError: a DVC command is at work in this folder.
        UserError: DVC cannot read dvc.yaml, dvc.lock or the folder's git repository.
    """
    from dvc.exceptions import DvcException  # here: it takes most of a second, and --help needs none of it
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(checkout())) as repo:
            return repo.status()
    except LockError:
        raise BusyError("a DVC command is at work in this folder: wait until it ends, and start again") from None
    except DvcException as error:
        raise UserError(f"DVC cannot tell the state of the pipeline: {error}") from None
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise UserError(
            f"{error.filename}: {error.strerror}: DVC writes there to tell the state of the pipeline: clone the"
            " repository into a folder that can be written to"
        ) from None


def states_of(stages: list[Stage], reported: dict[str, list[Any]]) -> dict[Stage, tuple[str, str]]:
    """Return each stage's state and the reason for it.

    A stage that reads what a stage with a changed state writes is changed, too: DVC reports it only after that one ran.
    """
    locked, states = locked_stages(checkout()), dict[Stage, tuple[str, str]]()
    for stage in stages:
        known, written = stage.name in locked, all((checkout() / path).exists() for path in stage.writes)
        names = causes(reported.get(stage.name, []))
        before = [each.name for each, (state, _) in states.items() if state != "done" and stage.follows(each)]
        if not written or not (stage.writes or known):
            states[stage] = "missing", ""
        elif not known:
            states[stage] = "changed", BY_HAND
        elif stage.name in reported and names != [RAW]:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            states[stage] = "changed", ", ".join(names[:SHOWN]) + more
        elif before:
            states[stage] = "changed", f"reads what {before[-1]} makes"
        else:
            states[stage] = "done", RAW if names else ""
    return states


def causes(details: list[Any]) -> list[str]:
    """Return the files, and the keys within files of parameters, that DVC names as changed; RAW for missing images."""
    found = []
    for change in (change for each in details if isinstance(each, dict) for change in each.values()):
        for name, what in change.items() if isinstance(change, dict) else [(str(change), "")]:
            if name.startswith("data/raw/") and what == "deleted":
                found.append(RAW)
            else:
                found += [f"{name}: {key}" for key in what] if isinstance(what, dict) else [name]
    return list(dict.fromkeys(found))


def commands() -> dict[str, str]:
    """Return every command, by name: what the first line of its file says."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    documents = {file.stem: ast.get_docstring(ast.parse(file.read_bytes())) or "" for file in files}
    return {name: text.partition("\n")[0] for name, text in documents.items()}


def table(rows: list[tuple[str, str, str]]) -> Table:
    """Return rows of state, command and explanation; only the last column wraps in a narrow terminal."""
    result = Table.grid(padding=(0, 2))
    result.add_column(no_wrap=True)
    result.add_column(no_wrap=True)
    result.add_column(overflow="fold")
    for state, command, text in rows:
        result.add_row(Text(state, STYLES.get(state, "")), command, text)
    return result


def next_command(states: dict[Stage, tuple[str, str]], competition: str) -> str:
    """Return the command that brings the pipeline forward, or submits when all is done."""
    waiting = [stage for stage, state in states.items() if state[0] != "done" and state[1] != BY_HAND]
    if not waiting and any(why == BY_HAND for _, why in states.values()):
        return "make repro, which runs again what was made without DVC"
    if not waiting:
        return f"{PACKAGE}submit"
    if not (checkout() / "data" / "raw" / competition).exists():
        return "make repro" if competition == "sample" else f"make download COMPETITION={competition}, then make repro"
    return f"make repro, or this stage alone: {waiting[0].typed}"


if __name__ == "__main__":
    main()
