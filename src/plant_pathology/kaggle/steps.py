"""Run all steps of `submit`, from the rehearsed package to a row in reports/submissions.csv.

The steps, in this order: what the way to submit needs first (by_kernel.py, by_file.py); submit, wait for the score
(submission.py). The journal (journal.py) lets an interrupted submit continue.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.core.hashes import file_hash
from plant_pathology.core.secrets import hide_secrets_in_output
from plant_pathology.inference.tables import LayoutError, read_table, require
from plant_pathology.kaggle.by_file import ByFile
from plant_pathology.kaggle.by_kernel import ByKernel
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.form import check_form_is_current
from plant_pathology.kaggle.journal import Journal
from plant_pathology.kaggle.progress import show
from plant_pathology.kaggle.retries import timeouts_and_retries
from plant_pathology.kaggle.submission import Submission
from plant_pathology.kaggle.way import OUTPUT, Way
from plant_pathology.kernel.package import REHEARSAL, SUBMITTED, Package, read_rehearsal

ROWS = "submissions.csv"


def submit(cfg: DictConfig) -> None:
    """Submit what was rehearsed, or with submit.dry_run only print what would be done.

    Raises:
        UserError: it is not rehearsed, Kaggle refused a step, another submit is running, or the submission failed.
    """
    hide_secrets_in_output()
    competition, reports = Competition.from_config(cfg), Path(cfg.paths.reports)
    package = Package.read(Path(cfg.paths.kernels), competition.name)
    way = way_of(cfg, package, competition)
    refusals = [*refusals_of(package, competition, reports), *way.refusals()]
    if cfg.submit.dry_run:
        show_plan(way, competition, Journal(reports / "submit.json", way.sha256), refusals)
        return
    for refusal in refusals:
        raise UserError(refusal)
    try:
        with FileLock(reports / ".submit.lock", timeout=0), timeouts_and_retries(cfg.submit):
            journal = Journal(reports / "submit.json", way.sha256)
            kaggle = Kaggle(competition.name)
            run_steps(Submission(kaggle, way, package, competition, journal, cfg.submit), reports, Path(cfg.paths.raw))
    except Timeout:
        raise UserError(f"another submit is working on {reports}: wait until it ends") from None


def way_of(cfg: DictConfig, package: Package, competition: Competition) -> Way:
    """Return the way in which the competition takes submissions."""
    raw, reports = Path(cfg.paths.raw), Path(cfg.paths.reports)
    if competition.submit.by == "file":
        return ByFile(reports / SUBMITTED, package, competition, raw)
    return ByKernel(package, competition, raw, reports / f"kaggle-{OUTPUT}", cfg.submit)


def refusals_of(package: Package, competition: Competition, reports: Path) -> Iterator[str]:
    """Yield the reasons not to submit the package in either way, each with a remedy."""
    if competition.synthetic:
        yield f"competition={competition.name} is a synthetic competition, not one of Kaggle's: see `make download`"
    try:
        read_rows(reports / ROWS)  # a spreadsheet may have saved it: better known now than after the submission
        rehearsal = read_rehearsal(reports / REHEARSAL)
    except UserError as error:
        yield str(error)
        return
    if rehearsal.get("verdict") != "passed":
        yield f"{reports}/rehearsal.json: the rehearsal did not pass: fix what its checks list"
    if rehearsal.get("sha256") != package.hashes or rehearsal.get("competition") != competition.name:
        yield f"{reports}/rehearsal.json is of other bytes than {package.folder}: run `dvc repro`"
    submitted = reports / SUBMITTED
    if competition.submit.by == "file" and submitted.is_file() and rehearsal.get("submission") != file_hash(submitted):
        yield f"{submitted} has other bytes than the rehearsal wrote: run `python -m plant_pathology.rehearse`"


def run_steps(submission: Submission, reports: Path, raw: Path) -> None:
    """Run every step that is not done yet."""
    journal = submission.journal
    show("account", submission.kaggle.user)
    submission.way.check_account(submission.kaggle.user)
    journal.belongs_to(submission.kaggle.user)
    check_competition(submission)
    found = submission.find()
    if found:
        show("submission", f"{found.ref}: submitted already")
        journal.note(submission=found.ref)
    else:
        check_form_is_current(submission.kaggle, submission.competition, raw)
        submission.remaining_today()
        submission.way.prepare(submission.kaggle, journal)
        found = submission.submit()
        show("submission", f"{found.ref}: submitted")
    scored = submission.await_score()
    write_row(reports / ROWS, row_of(submission, scored))
    show("written", f"{reports}/{ROWS}")
    if scored.status.name == "ERROR":
        raise UserError(
            f"submission {scored.ref} failed on Kaggle: {scored.error_description or 'it gave no reason'}: change the"
            " bundle or kernel, run `make repro`, or submit by hand (docs/submit.md); no bytes are submitted twice"
        )


def check_competition(submission: Submission) -> None:
    """Check that the competition accepts our submissions.

    Raises:
        UserError: it has ended, we have not joined it, or it takes no files.
    """
    name = submission.competition.name
    found = submission.kaggle.competition(name)
    if found.submissions_disabled:
        raise UserError(f"{name} no longer takes submissions: choose another competition")
    if not found.user_has_entered:
        raise UserError(f"join the competition first: https://www.kaggle.com/competitions/{name}/rules")
    if found.is_kernels_submissions_only and submission.competition.submit.by == "file":
        raise UserError(
            f"{name} takes notebooks only: set submit.by to kernel in {submission.competition.file}, then `dvc repro`"
        )


def row_of(submission: Submission, scored: Any) -> dict[str, Any]:
    """Return the row of reports/submissions.csv."""
    origin, journal = submission.package.origin, submission.journal
    return {
        "date": scored.date.isoformat(timespec="seconds") if scored.date else "",
        "commit": origin["commit"] or "",
        "data": origin["data"]["ref"],
        "sha256": submission.way.sha256,
        "validation": origin["score"]["validation"],
        "kernel_version": journal.get("kernel") or kernel_version_in(scored.description or ""),
        "submission": scored.ref,
        "status": scored.status.name.lower(),
        "public": scored.public_score or "",
        "private": scored.private_score or "",
    }


def kernel_version_in(message: str) -> str:
    """Return the kernel's version in a submission's message; empty for a file."""
    found = re.search(r"kernel version (\d+)$", message)
    return found[1] if found else ""


def read_rows(path: Path) -> pd.DataFrame | None:
    """Read reports/submissions.csv; None where it does not exist.

    Raises:
        UserError: it is not the table that `write_row` writes.
    """
    if not path.exists():
        return None
    try:
        table = read_table(path)
        require(["submission"], table, str(path))
    except LayoutError as error:
        raise UserError(f"{error}: correct it, or move it away, and a new one begins") from None
    return table


def write_row(path: Path, row: dict[str, Any]) -> None:
    """Add the row, or replace the row of the same submission, whose private score comes later."""
    new = pd.DataFrame([row]).astype(str)
    old = read_rows(path)
    if old is not None:
        new = pd.concat([old[old["submission"] != new["submission"][0]], new])
    with atomic_file(path) as work:
        new.to_csv(work, index=False)


def show_plan(way: Way, competition: Competition, journal: Journal, refusals: list[str]) -> None:
    """Print what would be done, without a request to Kaggle."""
    done = journal.noted
    show("bytes", f"sha256 {way.sha256} of {way.content}")
    steps = way.plan | {"submission": f"submit it to {competition.name}, and wait for the score"}
    for step, text in steps.items():
        show(step, f"done already ({done[step]})" if step in done else f"would {text}")
    for refusal in refusals:
        show("refused", refusal)
