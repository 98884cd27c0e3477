"""Kill `submit` at its requests and start it again: one submission, and a journal that is never stuck."""

import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd

from support.commands import run_module, start_module
from support.handmade import DATASET, KERNEL, NAME, SUBMITTED, arguments, file_root, rehearsed_package
from support.local_kaggle import LocalKaggle, environment, local_kaggle

FORM = b"image,labels\na.jpg,healthy\nb.jpg,healthy\n"
WAYS = {"kernel": [], "file": ["++competition.submit.by=file"]}


def server() -> AbstractContextManager[LocalKaggle]:
    """Return a Kaggle that lists a submission late, and lets every step wait once."""
    return local_kaggle(
        competition=NAME,
        run=lambda run, hidden: ({"submission.csv": SUBMITTED}, "", None),
        form=FORM,
        dataset_polls=1,
        kernel_polls=1,
        score_polls=1,
        listing_polls=3,
    )


def package(folder: Path) -> Path:
    folder.mkdir()
    return file_root(rehearsed_package(folder))


def requests_of(folder: Path, overrides: Sequence[str]) -> list[str]:
    """Return the requests of an undisturbed submission, in order."""
    with server() as kaggle:
        done = run_module("submit", *arguments(*overrides), cwd=package(folder), **environment(folder, kaggle))
        assert done.returncode == 0, done.stdout + done.stderr
        return list(kaggle.requests)


def killed_and_started_again(folder: Path, overrides: Sequence[str], number: int, after: bool) -> None:
    """Kill a submission at a request, before or after the server carried it out, and start it again.

    Args:
        number: of the request, from 1.
    """
    with server() as kaggle:
        kaggle.kill_at = (number, after)
        variables, streams = environment(folder, kaggle), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        first = start_module("submit", *arguments(*overrides), cwd=package(folder), **streams, **variables)
        kaggle.victim = first.pid
        shown, _ = first.communicate()
        assert first.returncode == -signal.SIGKILL, shown
        killed_at = kaggle.requests[-1]
        kaggle.kill_at = None
        again = run_module("submit", *arguments(*overrides), cwd=folder, **variables)
        moment = f"killed {'after' if after else 'before'} request {number}, {killed_at}"
        where = f"{moment}\n{again.stdout}{again.stderr}"
        assert again.returncode == 0, where
        assert len(kaggle.submissions) == 1, where
        assert len(pd.read_csv(folder / "reports/submissions.csv")) == 1, where
        expected = 0 if overrides else 1
        assert len(kaggle.datasets.get(DATASET, [])) == len(kaggle.kernels.get(KERNEL, [])) == expected, where


def points(requests: Sequence[str]) -> list[tuple[int, bool]]:
    """Return the moments that differ: each kind of request once, and after it only where it changed something.

    A request that only reads leaves the same behind, whether the kill came before or after it.
    """
    firsts = [number for number, request in enumerate(requests, 1) if request not in requests[: number - 1]]
    changing = [number for number in firsts if re.match("Create|Save|Start|PUT", requests[number - 1])]
    return [(number, False) for number in firsts] + [(number, True) for number in changing]
