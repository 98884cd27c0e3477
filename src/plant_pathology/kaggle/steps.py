"""Submit to Kaggle: dataset, kernel, its run, its output, the submission, its score, into reports/submissions.csv.

Interrupted anywhere and started again it continues, and never submits the same bytes twice. It acts on the world, so
that it is no stage of `dvc repro`.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, read_json
from plant_pathology.core.schema import check_values
from plant_pathology.kaggle.client import Kaggle, patience
from plant_pathology.kaggle.journal import Journal, say
from plant_pathology.kaggle.push import OUTPUT, Push
from plant_pathology.kaggle.submission import Submission
from plant_pathology.kernel.package import Package

PLACEHOLDER = "KAGGLE_USERNAME"
SECONDS = ("dataset_timeout_s", "kernel_timeout_s", "score_timeout_s", "settle_s", "request_timeout_s", "backoff_s")


def submit(cfg: DictConfig) -> None:
    check_values(
        cfg,
        choices={"submit.dry_run": (True, False)},
        ranges={f"submit.{key}": (0.0, 1e6) for key in SECONDS}
        | {"submit.poll_s": (0.001, 3600.0), "submit.retries": (0, 100), "submit.daily_limit": (1, 100)},
    )
    competition, reports = Competition.from_config(cfg), Path(cfg.paths.reports)
    package = Package.read(Path(cfg.paths.kernels), competition.name)
    refusals = list(reasons_against(package, competition, reports))
    if cfg.submit.dry_run:
        show_plan(package, competition, Journal(reports / "submit.json", package.sha256), refusals)
        return
    for refusal in refusals:
        raise UserError(refusal)
    form = competition.read_sample_submission(Path(cfg.paths.raw))
    try:
        with FileLock(reports / ".submit.lock", timeout=0), patience(cfg.submit):
            journal = Journal(reports / "submit.json", package.sha256)
            carry(Submission(Kaggle(), package, competition, journal, cfg.submit), form, reports)
    except Timeout:
        raise UserError(f"another submit works on {reports}: wait for it") from None


def reasons_against(package: Package, competition: Competition, reports: Path):
    """Why these folders are not submitted."""
    if competition.synthetic:
        yield f"competition={competition.name} is drawn here: there is nothing like it on Kaggle; see `make download`"
    for ref in (package.kernel, package.dataset):
        if ref.startswith(f"{PLACEHOLDER}/"):
            yield f"{ref}: set package.owner in conf/params.yaml to your Kaggle user name, then `make repro`"
            break
    try:
        rehearsal = read_json(reports / "rehearsal.json", "run `python -m plant_pathology.rehearse`")
    except UserError as error:
        yield str(error)
        return
    if rehearsal.get("verdict") != "passed":
        yield f"{reports}/rehearsal.json: the rehearsal did not pass; Kaggle would fail the same way"
    if rehearsal.get("sha256") != package.hashes or rehearsal.get("competition") != competition.name:
        yield f"{reports}/rehearsal.json is of other bytes than {package.folder}: run `dvc repro`"


def carry(submission: Submission, form: pd.DataFrame, reports: Path) -> None:
    """All steps, from where they are."""
    journal = submission.journal
    say("account", submission.kaggle.user)
    look_at_competition(submission)
    found = submission.find()
    if found:
        say("submission", f"{found.ref}: submitted already")
        journal.note(submission=found.ref)
    else:
        submission.left_today()
        push = Push(submission.kaggle, submission.package, journal, submission.settings)
        if not journal.get("kernel"):
            push.bring_dataset()
            push.push_kernel()
        push.follow_kernel()
        push.fetch_output(form, submission.competition, reports / f"kaggle-{OUTPUT}")
        found = submission.submit()
        say("submission", f"{found.ref}: Kaggle has it")
    scored = submission.await_score()
    write_row(reports / "submissions.csv", row_of(submission, scored))
    say("written", f"{reports}/submissions.csv")
    if scored.status.name == "ERROR":
        raise UserError(
            f"submission {scored.ref} failed on Kaggle: {scored.error_description or 'it does not say why'}. The same"
            " bytes are not submitted twice: change the kernel and `make repro`, or submit it by hand (docs/submit.md)"
        )


def look_at_competition(submission: Submission) -> None:
    """Raises: UserError where the competition takes no submissions of ours."""
    name = submission.competition.name
    there = submission.kaggle.competition(name)
    if there.submissions_disabled:
        raise UserError(f"{name} takes no submissions any more")
    if not there.user_has_entered:
        raise UserError(f"join the competition first: https://www.kaggle.com/competitions/{name}/rules")


def row_of(submission: Submission, scored: Any) -> dict[str, Any]:
    origin, journal = submission.package.origin, submission.journal
    return {
        "date": scored.date.isoformat(timespec="seconds") if scored.date else "",
        "commit": origin["commit"] or "",
        "data": origin["data"]["ref"],
        "sha256": submission.package.sha256,
        "validation": origin["score"]["validation"],
        "kernel_version": journal.get("kernel") or (scored.description or "").rpartition(" ")[2],
        "submission": scored.ref,
        "status": scored.status.name.lower(),
        "public": scored.public_score or "",
        "private": scored.private_score or "",
    }


def write_row(path: Path, row: dict[str, Any]) -> None:
    """Add the row, or replace the one of the same submission: a private score comes later."""
    new = pd.DataFrame([row]).astype(str)
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        new = pd.concat([old[old["submission"] != new["submission"][0]], new])
    with atomic_file(path) as work:
        new.to_csv(work, index=False)


def show_plan(package: Package, competition: Competition, journal: Journal, refusals: list[str]) -> None:
    """What would be done, by what is known here: Kaggle is not asked."""
    done = journal.noted
    say("bytes", f"sha256 {package.sha256} of {package.folder}")
    steps = {
        "dataset": f"create {package.dataset} or its next version, {', '.join(sorted(package.data_files))}; wait",
        "kernel": f"push {package.kernel} from {package.folder}/submission; follow it to its end",
        "output": f"download {OUTPUT} and check it",
        "submission": f"submit it to {competition.name}, and wait for the score",
    }
    for step, text in steps.items():
        say(step, f"done already ({done[step]})" if step in done else f"would {text}")
    for refusal in refusals:
        say("refused", refusal)
