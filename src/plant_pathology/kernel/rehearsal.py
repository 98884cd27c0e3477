"""Rehearse the packaged kernel: run it as Kaggle would and compare its submission with the repository's predictions.

It runs on the public test set and then on one like Kaggle's hidden test set. A test set with a failed check ends the
rehearsal.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.bundle import checked_bundle
from plant_pathology.competition.form import read_form
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.time_limit import TimeLimit
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, remove_leftovers
from plant_pathology.core.hashes import file_hash
from plant_pathology.core.one_command import one_command
from plant_pathology.core.sealed import write_sealed
from plant_pathology.core.watched import tell_unwatched
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.bundle import SPEC
from plant_pathology.inference.tables import read_table
from plant_pathology.inference.test_set import Form
from plant_pathology.kernel.kaggle_image import Environment
from plant_pathology.kernel.limits import Machine, check_time, estimated_seconds, rehearsal_timeout
from plant_pathology.kernel.package import REHEARSAL, SUBMITTED, Package, score_told
from plant_pathology.kernel.rules import read_metadata
from plant_pathology.kernel.sandbox import MOUNTS, Outcome, run_kernel
from plant_pathology.kernel.scoring import (
    Solution,
    count_same,
    read_solution,
    read_truth,
    submission_score,
    training_images,
)
from plant_pathology.kernel.submission_check import Check, check_submission
from plant_pathology.kernel.test_sets import given_test_set, made_test_set

GIVEN = "given"  # the test set of rehearse.test_images
UNREADABLE = "unreadable, "  # begins the kernel's line about an image that it could not read
MAX_UNREADABLE = 0.01  # share of them; more are a wrong path or format, and score like no prediction at all
# Packages for training: absent from Kaggle's image, or slow to import.
FORBIDDEN = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "dvc"}
COMPARED = 256  # first rows, which are predicted again: whole batches, since the batch size changes the last digits


@dataclass(frozen=True)
class TestSet:
    """A competition folder with test images.

    Args:
        raw: the folder.
        mounts: where the kernel finds it, a key of MOUNTS.
        unreadable: id of an image that was damaged on purpose.
    """

    name: str
    raw: Path
    mounts: str
    unreadable: str | None = None


@dataclass(frozen=True)
class Trial:
    """One run of the kernel on one test set."""

    images: int
    mounts: str
    outcome: Outcome
    checks: dict[str, Check]

    def summary(self) -> dict[str, Any]:
        """Return the measured values for rehearsal.json."""
        return {
            "images": self.images,
            "mounts": self.mounts,
            "seconds": round(self.outcome.seconds, 2),
            "peak_memory_mb": self.outcome.peak_memory // 2**20,
            "disk_mb": round(self.outcome.disk_used / 2**20, 2),
        }


def rehearse(cfg: DictConfig) -> None:
    """Rehearse kernels/ and write reports/rehearsal.json, reports/rehearsal/submission.csv and the kernel's logs.

    Raises:
        UserError: the configured solution, test images or interpreter cannot be used; models/best and kernels/ are
            damaged, or not of one bundle for today's config; or the rehearsal failed and rehearse.strict is set.
        BusyError: another command works on models/, kernels/ or reports/.
    """
    competition = Competition.from_config(cfg)
    models, kernels, reports = Path(cfg.paths.models), Path(cfg.paths.kernels), Path(cfg.paths.reports)
    for key in ("test_images", "solution"):
        if named := cfg.rehearse[key]:
            tell_unwatched(cfg, f"rehearse.{key}", Path(named))
    if cfg.rehearse.solution:
        read_solution(Path(cfg.rehearse.solution))
        if not cfg.rehearse.test_images:
            raise UserError(
                f"rehearse.solution={cfg.rehearse.solution}: it is the truth of rehearse.test_images, which is not set:"
                " set both, or neither"
            )
    with one_command(writes=[reports], reads=[models, kernels]):
        remove_leftovers(reports / "rehearsal", reports / REHEARSAL)
        spec = checked_bundle(models / "best", competition)
        package = Package.read(kernels, competition.name)
        package.check_made_from(models / "best")
        for path in package.altered:
            print(f"{path} is not as `package` wrote it, but edited or damaged: it is rehearsed as it is")
        environment = Environment.of(cfg.rehearse.python)
        versions = environment.compared(cfg.package.docker_image)
        print(f"image   {versions}")
        trials, score = run_trials(cfg, competition, spec, environment)
        checks = merge_checks(trials)
        passed = all(each.passed for each in checks.values())
        content = verdict(trials, checks, cfg, package, competition) | score | {"image": versions}
        write_sealed(reports / REHEARSAL, content)
    for name, each in checks.items():
        print(f"{'passed' if each.passed else 'FAILED'}  {name}: {each.detail}")
    if told := score_told(content):
        print(f"score   {told}")
    if not passed and cfg.rehearse.strict:
        raise UserError(f"the rehearsal failed: see {reports / REHEARSAL}; Kaggle would fail the same way")


def run_trials(
    cfg: DictConfig, competition: Competition, spec: dict[str, Any], environment: Environment
) -> tuple[dict[str, Trial], dict[str, Any]]:
    """Run the kernel on each test set until one fails, and keep its logs and submission in reports/rehearsal.

    Args:
        spec: content of bundle.json.

    Returns:
        The trials by test set, and what rehearsal.json says of the score of the last one, if its solution is known.
    """
    machine, limit = Machine.from_config(cfg), TimeLimit.from_config(cfg, competition)
    kernels, reports = Path(cfg.paths.kernels), Path(cfg.paths.reports)
    trials: dict[str, Trial] = {}
    # Beside the results, not in /tmp: a killed rehearsal's files are found again, and raw images can be linked.
    with (
        tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=reports) as scratch,
        atomic_folder(reports / "rehearsal") as kept,
    ):
        # Before the first run, which takes minutes: what the user gives may be wrong.
        solution = write_given_test_set(cfg, competition, spec, Path(scratch))
        for test_set in test_sets(cfg, competition, Path(scratch)):
            working = Path(scratch) / f"{test_set.name}-working"
            working.mkdir()
            (reports / REHEARSAL).unlink(missing_ok=True)  # the verdict is open from here on
            bundle = Path(cfg.paths.models) / "best"
            trial = run_trial(test_set, kernels, bundle, working, spec, machine, limit, competition, environment)
            trials[test_set.name] = trial
            (kept / f"{test_set.name}.log").write_text(trial.outcome.log, encoding="utf-8")
            if not all(check.passed for check in trial.checks.values()):
                return trials, {"score": None}
            # Keep the submission of the public test set or, if the user gave test images, of those.
            if test_set.unreadable is None:
                shutil.copyfile(working / "submission.csv", kept / SUBMITTED.name)
        if solution is None:
            return trials, {"score": None}
        form, answers = read_form(competition, test_set.raw), Answers(**spec["answers"])
        score = submission_score(kept / SUBMITTED.name, solution.true, form, answers, competition)
    known = {"metric": competition.metric.name, "training_images": solution.training_images}
    return trials, {"score": score, "scored": known | {"images": len(form.table)}}


def write_given_test_set(
    cfg: DictConfig, competition: Competition, spec: dict[str, Any], scratch: Path
) -> Solution | None:
    """Write the test set of rehearse.test_images, where that is set, and return its truth from rehearse.solution.

    Raises:
        UserError: the images or the solution cannot be used.
    """
    if not cfg.rehearse.test_images:
        return None
    raw, folder = Path(cfg.paths.raw), scratch / GIVEN
    given_test_set(Path(cfg.rehearse.test_images), raw, folder, competition)
    if not cfg.rehearse.solution:
        return None
    form, labels = read_form(competition, folder), spec["answers"]["labels"]
    true = read_truth(Path(cfg.rehearse.solution), raw, form, labels, competition)
    return Solution(true, count_same([folder / image for image in form.images], training_images(cfg, competition)))


def verdict(
    trials: dict[str, Trial],
    checks: dict[str, Check],
    cfg: DictConfig,
    package: Package,
    competition: Competition,
) -> dict[str, Any]:
    """Return the content of rehearsal.json but for the score.

    Args:
        package: as it was read before the trials: what someone changes meanwhile was not rehearsed.
    """
    limit, last = TimeLimit.from_config(cfg, competition), list(trials.values())[-1]
    submitted = Path(cfg.paths.reports) / SUBMITTED
    return {
        "verdict": "passed" if all(each.passed for each in checks.values()) else "failed",
        "competition": competition.name,
        "synthetic": competition.synthetic,
        "isolation": last.outcome.isolation,
        "isolation_reason": last.outcome.isolation_reason,
        "sha256": package.hashes,
        "bundle": package.origin["dataset"][SPEC],
        "submission": file_hash(submitted) if submitted.exists() else None,
        "test_sets": {name: trial.summary() for name, trial in trials.items()},
        "estimate": {
            "images": limit.images,
            "seconds": estimated_seconds(limit, last.outcome.seconds, last.images),
            "limit": limit.seconds,
            "accelerator": limit.accelerator,
        },
        "checks": {name: "passed" if each.passed else each.detail for name, each in checks.items()},
    }


def test_sets(cfg: DictConfig, competition: Competition, scratch: Path) -> Iterator[TestSet]:
    """Yield the public test set, then rehearse.test_images or, without any, one like Kaggle's hidden test set."""
    raw = Path(cfg.paths.raw)
    yield TestSet("public", raw, "old")
    if cfg.rehearse.test_images:
        yield TestSet(GIVEN, scratch / GIVEN, "new")
    else:
        unreadable = made_test_set(raw, scratch / "hidden", cfg.rehearse.images, competition)
        yield TestSet("hidden", scratch / "hidden", "new", unreadable)


def run_trial(
    test_set: TestSet,
    kernels: Path,
    bundle: Path,
    working: Path,
    spec: dict[str, Any],
    machine: Machine,
    limit: TimeLimit,
    competition: Competition,
    environment: Environment,
) -> Trial:
    """Run the kernel on a test set and check for every known reason why a submission fails on Kaggle.

    Args:
        spec: content of bundle.json.
    """
    dataset = read_metadata(kernels / "dataset", "dataset")["id"]
    inputs = MOUNTS[test_set.mounts](competition.name, test_set.raw, dataset, kernels / "dataset")
    form = read_form(competition, test_set.raw)
    images = len(form.table)
    print(f"the {test_set.name} test set, {images} images", flush=True)
    timeout_s = rehearsal_timeout(limit, images)
    outcome = run_kernel(kernels / "submission", inputs, working, timeout_s, machine, environment=environment)
    print(outcome.log, end="")
    submitted = working / "submission.csv"
    forbidden = sorted(FORBIDDEN & set(outcome.modules))
    checks = {
        "runs": Check(
            outcome.error is None,
            f"Notebook Threw Exception: {last_line(outcome.error)}" if outcome.error else f"{outcome.seconds:.1f} s",
        ),
        "time": check_time(limit, outcome.seconds, images, outcome.error == "timeout"),
        "compute": machine.check_compute(outcome.peak_memory, outcome.disk_used, outcome.error),
        "offline": Check(not outcome.network, f"network off by {outcome.network_off_by}"),
        "imports": Check(
            not forbidden, f"imports {', '.join(forbidden)}" if forbidden else "nothing that belongs to training"
        ),
        "submission": check_submission(submitted, form, spec),
    }
    if checks["submission"].passed:
        checks["equal"] = check_equal(submitted, bundle, test_set.raw)
        checks["readable"] = check_readable(outcome.log, form, test_set.unreadable)
    if checks["submission"].passed and test_set.unreadable:
        checks["unreadable"] = check_unreadable(test_set.unreadable, outcome.log, submitted, spec, form)
    return Trial(images, test_set.mounts, outcome, checks)


def last_line(error: str) -> str:
    """Return the message at the end of a traceback; the kernel's log has all of it."""
    return error.strip().rpartition("\n")[2]


def merge_checks(trials: dict[str, Trial]) -> dict[str, Check]:
    """Merge each check's results: passed if it passed on every test set; details of the failures, or else of all."""
    checks: dict[str, Check] = {}
    for name in dict.fromkeys(name for trial in trials.values() for name in trial.checks):
        each = {test_set: trial.checks[name] for test_set, trial in trials.items() if name in trial.checks}
        passed = all(check.passed for check in each.values())
        details = [f"{test_set}: {check.detail}" for test_set, check in each.items() if check.passed == passed]
        checks[name] = Check(passed, "; ".join(details))
    return checks


def check_equal(path: Path, bundle: Path, raw: Path) -> Check:
    """Compare the first rows with the repository's own predictions: texts must be equal, numbers nearly so."""
    # Imported here, so that a kernel that fails is reported without waiting for torch.
    from plant_pathology.inference.predictor import predict_submission

    theirs = read_table(path).head(COMPARED)
    expected, _ = predict_submission(bundle, raw, first=COMPARED)
    differing = int((~equal_cells(expected, theirs)).any(axis=1).sum())
    return Check(not differing, f"{differing} of {len(expected)} rows differ from the repository's predictions")


def equal_cells(ours: pd.DataFrame, theirs: pd.DataFrame) -> np.ndarray:
    """Return which cells are equal, as text or, with another number of threads, up to the last digits of a number."""
    ours_number, theirs_number = (
        table.apply(pd.to_numeric, errors="coerce").to_numpy(float) for table in (ours, theirs)
    )
    return (ours.to_numpy() == theirs.to_numpy()) | np.isclose(ours_number, theirs_number, rtol=1e-3, atol=1e-4)


def check_readable(log: str, form: Form, damaged: str | None) -> Check:
    """Check that the kernel could read the images, besides the one that was damaged on purpose and a few more."""
    unreadable = sum(line.startswith(UNREADABLE) for line in log.splitlines()) - (damaged is not None)
    share = unreadable / len(form.table)
    return Check(share <= MAX_UNREADABLE, f"{unreadable} of {len(form.table)} images could not be read")


def check_unreadable(id_: str, log: str, submitted: Path, spec: dict[str, Any], form: Form) -> Check:
    """Check that the kernel's log names the unreadable image and that its row has the bundle's fallback."""
    table = read_table(submitted).set_index(form.id)
    cells = table.loc[id_, form.answers]
    fallback = Answers(**spec["answers"]).cells(np.array(spec["fallback"]), form.answers)
    expected = {column: cell for column, (cell,) in fallback.items()}
    image = Path(form.images[form.table[form.id].tolist().index(id_)]).name
    shown = " ".join(cells[:3])
    if cells.to_dict() != expected:
        return Check(False, f"the damaged image {image} has {shown!r}, not {' '.join(expected.values())!r}")
    if image not in log:
        return Check(False, f"the kernel's log does not name the damaged image {image}")
    return Check(True, f"{image} is damaged, reported, and has {shown!r}")
