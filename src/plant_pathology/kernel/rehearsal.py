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

import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.metrics import sample_f1
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, read_json, write_json
from plant_pathology.kernel.limits import Limits
from plant_pathology.kernel.package import folder_hashes
from plant_pathology.kernel.sandbox import Outcome, run_kernel
from plant_pathology.kernel.submission_check import Check, check_submission
from plant_pathology.kernel.test_sets import given_test_set, made_test_set

# Packages for training: absent from Kaggle's image, or slow to import.
FORBIDDEN = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "dvc"}
COMPARED = 256  # first rows, which are predicted again: whole batches, since the batch size changes the last digits


@dataclass(frozen=True)
class TestSet:
    """A competition folder with test images.

    Args:
        raw: the folder.
        unreadable: name of an image that was damaged on purpose.
    """

    name: str
    raw: Path
    unreadable: str | None = None


@dataclass(frozen=True)
class Trial:
    """One run of the kernel on one test set."""

    images: int
    outcome: Outcome
    checks: dict[str, Check]

    def summary(self) -> dict[str, Any]:
        """Return the measured values for rehearsal.json."""
        return {
            "images": self.images,
            "seconds": round(self.outcome.seconds, 2),
            "peak_memory_mb": self.outcome.peak_memory // 2**20,
            "disk_mb": round(self.outcome.disk_used / 2**20, 2),
        }


def rehearse(cfg: DictConfig) -> None:
    """Rehearse kernels/ and write reports/rehearsal.json, reports/rehearsal/submission.csv and the kernel's logs.

    Raises:
        UserError: the configured solution does not exist, or the rehearsal failed and rehearse.strict is set.
    """
    competition, limits = Competition.from_config(cfg), Limits.from_config(cfg)
    kernels, reports = Path(cfg.paths.kernels), Path(cfg.paths.reports)
    if cfg.rehearse.solution and not Path(cfg.rehearse.solution).is_file():
        raise UserError(f"rehearse.solution={cfg.rehearse.solution}: there is no such file: correct the path")
    (reports / "rehearsal.json").unlink(missing_ok=True)
    trials, score = {}, None
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(reports / "rehearsal") as kept:
        for test_set in test_sets(cfg, competition, Path(scratch)):
            working = Path(scratch) / f"{test_set.name}-working"
            working.mkdir()
            trial = run_trial(test_set, kernels, Path(cfg.paths.models) / "best", working, competition, limits)
            trials[test_set.name] = trial
            (kept / f"{test_set.name}.log").write_text(trial.outcome.log, encoding="utf-8")
            if not all(check.passed for check in trial.checks.values()):
                break
            # Keep the submission of the public test set or, if the user gave test images, of those.
            if test_set.unreadable is None:
                shutil.copyfile(working / "submission.csv", kept / "submission.csv")
        else:
            if cfg.rehearse.solution:
                score = score_of(kept / "submission.csv", Path(cfg.rehearse.solution), competition)
    checks = merge_checks(trials)
    passed = all(each.passed for each in checks.values())
    last = list(trials.values())[-1]
    write_json(
        reports / "rehearsal.json",
        {
            "verdict": "passed" if passed else "failed",
            "competition": competition.name,
            "synthetic": competition.synthetic,
            "isolation": last.outcome.isolation,
            "isolation_reason": last.outcome.isolation_reason,
            "sha256": folder_hashes(kernels),
            "test_sets": {name: trial.summary() for name, trial in trials.items()},
            "estimate": {
                "images": limits.hidden_images,
                "seconds": limits.estimated_seconds(last.outcome.seconds, last.images),
                "limit": limits.timeout_s,
            },
            "score": score,
            "checks": {name: "passed" if each.passed else each.detail for name, each in checks.items()},
        },
    )
    for name, each in checks.items():
        print(f"{'passed' if each.passed else 'FAILED'}  {name}: {each.detail}")
    if not passed and cfg.rehearse.strict:
        raise UserError(f"the rehearsal failed: see {reports}/rehearsal.json; Kaggle would fail the same way")


def test_sets(cfg: DictConfig, competition: Competition, scratch: Path) -> Iterator[TestSet]:
    """Yield the public test set, then rehearse.test_images or, without any, one like Kaggle's hidden test set."""
    raw = Path(cfg.paths.raw)
    yield TestSet("public", raw)
    if cfg.rehearse.test_images:
        given_test_set(Path(cfg.rehearse.test_images), raw, scratch / "hidden", competition)
        yield TestSet("given", scratch / "hidden")
    else:
        unreadable = made_test_set(raw, scratch / "hidden", cfg.rehearse.images, competition)
        yield TestSet("hidden", scratch / "hidden", unreadable)


def run_trial(
    test_set: TestSet, kernels: Path, bundle: Path, working: Path, competition: Competition, limits: Limits
) -> Trial:
    """Run the kernel on a test set and check for every known reason why a submission fails on Kaggle."""
    dataset = read_json(kernels / "dataset" / "dataset-metadata.json", "run `python -m plant_pathology.package`")["id"]
    form = competition.read_sample_submission(test_set.raw)
    images = len(form)
    print(f"the {test_set.name} test set, {images} images", flush=True)
    inputs = {competition.name: test_set.raw, dataset.split("/")[1]: kernels / "dataset"}
    outcome = run_kernel(kernels / "submission", inputs, working, limits.rehearsal_timeout(images), limits)
    print(outcome.log, end="")
    submitted = working / "submission.csv"
    forbidden = sorted(FORBIDDEN & set(outcome.modules))
    checks = {
        "runs": Check(
            outcome.error is None,
            f"Notebook Threw Exception: {last_line(outcome.error)}" if outcome.error else f"{outcome.seconds:.1f} s",
        ),
        "time": limits.check_time(outcome.seconds, images, outcome.error == "timeout"),
        "compute": limits.check_compute(outcome.peak_memory, outcome.disk_used, outcome.error),
        "offline": Check(not outcome.network, f"network off by {outcome.network_off_by}"),
        "imports": Check(
            not forbidden, f"imports {', '.join(forbidden)}" if forbidden else "nothing that belongs to training"
        ),
        "submission": check_submission(submitted, form, competition),
    }
    if checks["submission"].passed:
        checks["equal"] = check_equal(submitted, bundle, test_set.raw, form, competition)
    if checks["submission"].passed and test_set.unreadable:
        checks["unreadable"] = check_unreadable(test_set.unreadable, outcome.log, submitted, bundle, competition)
    return Trial(images, outcome, checks)


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


def check_equal(path: Path, bundle: Path, raw: Path, form: pd.DataFrame, competition: Competition) -> Check:
    """Compare the first rows with the repository's own predictions."""
    # Imported here, so that a kernel that fails is reported without waiting for torch.
    from plant_pathology.inference.predictor import predict_submission

    theirs = pd.read_csv(path, dtype=str, keep_default_na=False).head(COMPARED)
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / competition.sample_submission
        form.head(COMPARED).to_csv(first, index=False)
        expected, _ = predict_submission(bundle, raw / competition.test_images, first)
    differing = int((expected != theirs).any(axis=1).sum())
    return Check(not differing, f"{differing} of {len(expected)} rows differ from the repository's predictions")


def check_unreadable(image: str, log: str, submitted: Path, bundle: Path, competition: Competition) -> Check:
    """Check that the kernel's log names the unreadable image and that its row has the bundle's fallback labels."""
    table = pd.read_csv(submitted, dtype=str).set_index(competition.image_column)
    labels = table.loc[image, competition.label_column]
    fallback = read_json(bundle / "bundle.json", "run `python -m plant_pathology.select`")["fallback"]
    if labels != fallback:
        return Check(False, f"the damaged image {image} has the labels {labels!r}, not {fallback!r}")
    if image not in log:
        return Check(False, f"the kernel's log does not name the damaged image {image}")
    return Check(True, f"{image} is damaged, reported, and has the labels {fallback!r}")


def score_of(submitted: Path, solution: Path, competition: Competition) -> float:
    """Return the submission's sample-F1: the mean of per-image F1 scores.

    Args:
        solution: a CSV with the columns of a submission and the true labels.

    Raises:
        UserError: the solution has no row for an image of the submission.
    """
    columns = [competition.image_column, competition.label_column]
    ours, truth = (pd.read_csv(path, dtype=str, keep_default_na=False)[columns] for path in (submitted, solution))
    both = ours.merge(truth, on=competition.image_column, how="left", suffixes=("_ours", "_true"))
    if both.isna().any(axis=None):
        missing = both[both.isna().any(axis=1)][competition.image_column]
        raise UserError(
            f"rehearse.solution={solution} has no row for {len(missing)} images, first {missing.iloc[0]}: add them"
        )
    predicted, true = (
        competition.one_hot(competition.label_lists(both[f"{competition.label_column}_{side}"]))
        for side in ("ours", "true")
    )
    return sample_f1(predicted, true)
