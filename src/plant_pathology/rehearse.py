"""Stage: run the packaged kernel as Kaggle would, and compare what it submits with the repository's own predictions."""

import os
import shutil
import tempfile
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition import Competition
from plant_pathology.form import Check, check_submission
from plant_pathology.metrics import sample_f1
from plant_pathology.pushable import hashes_of
from plant_pathology.sandbox import Outcome, run_kernel
from plant_pathology.stage import StageError, read_json, stage, whole_file, write_json

# Belongs to training; a kernel that imports it would fail or crawl on Kaggle.
FORBIDDEN = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "dvc"}


@stage
def main(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    kernels, reports = Path(cfg.paths.kernels), Path(cfg.paths.reports)
    bundle = Path(cfg.paths.models) / "best"
    slug = read_json(kernels / "dataset" / "dataset-metadata.json", "run `python -m plant_pathology.package`")["id"]
    (reports / "rehearsal.json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(cfg.paths.raw)
        if cfg.rehearse.test_images:
            raw = test_set(Path(cfg.rehearse.test_images), Path(scratch) / "raw", competition)
        form = competition.read_sample_submission(raw)
        working = Path(scratch) / "working"
        working.mkdir()
        inputs = {competition.name: raw, slug.split("/")[1]: kernels / "dataset"}
        outcome = run_kernel(kernels / "submission", inputs, working, timeout_s=cfg.rehearse.timeout_s)
        print(outcome.log, end="")
        submitted = working / "submission.csv"
        checks = check(outcome, submitted, form, competition)
        score = None
        if checks["submission"].passed:
            checks["equal"] = check_equal(submitted, bundle, raw, competition)
            with whole_file(reports / "submission.csv") as work:
                shutil.copyfile(submitted, work)
            if cfg.rehearse.solution:
                score = score_of(submitted, Path(cfg.rehearse.solution), competition)
    passed = all(each.passed for each in checks.values())
    write_json(
        reports / "rehearsal.json",
        {
            "verdict": "passed" if passed else "failed",
            "competition": competition.name,
            "synthetic": competition.synthetic,
            "isolation": outcome.isolation,
            "sha256": hashes_of(kernels),
            "images": len(form),
            "seconds": round(outcome.seconds, 2),
            "peak_memory_mb": outcome.peak_memory // 2**20,
            "score": score,
            "checks": {name: "passed" if each.passed else each.detail for name, each in checks.items()},
        },
    )
    for name, each in checks.items():
        print(f"{'passed' if each.passed else 'FAILED'}  {name}: {each.detail}")
    if not passed:
        raise StageError(f"the rehearsal failed: see {reports}/rehearsal.json; Kaggle would fail the same way")


def test_set(images: Path, raw: Path, competition: Competition) -> Path:
    """A competition folder around other test images, linked where the disk allows it.

    Raises:
        StageError: there are no images.
    """
    names = sorted(path.name for path in images.iterdir() if path.is_file()) if images.is_dir() else []
    if not names:
        raise StageError(f"rehearse.test_images={images}: there are no images in such a folder")
    (raw / competition.test_images).mkdir(parents=True)
    for name in names:
        place_file(images / name, raw / competition.test_images / name)
    form = pd.DataFrame({competition.image_column: names, competition.label_column: competition.labels[0]})
    form.to_csv(raw / competition.sample_submission, index=False)
    return raw


def place_file(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def check(outcome: Outcome, submitted: Path, form: pd.DataFrame, competition: Competition) -> dict[str, Check]:
    """Everything that is known to fail a submission, named as the check that finds it."""
    brought = sorted(FORBIDDEN & set(outcome.modules))
    return {
        "runs": Check(outcome.error is None, last_line(outcome.error) or f"{outcome.seconds:.1f} s"),
        "offline": Check(not outcome.network, f"network off by {outcome.isolation}"),
        "imports": Check(
            not brought, f"imports {', '.join(brought)}" if brought else "nothing that belongs to training"
        ),
        "submission": check_submission(submitted, form, competition),
    }


def last_line(error: str | None) -> str:
    """A traceback's message; the whole of it stands in the kernel's log."""
    return (error or "").strip().rpartition("\n")[2]


def check_equal(path: Path, bundle: Path, raw: Path, competition: Competition) -> Check:
    """Row by row what the repository itself predicts."""
    # Imported here, so that a kernel that fails is told of without waiting for torch.
    from plant_pathology.predict import submission_of

    expected, _ = submission_of(bundle, raw / competition.test_images, raw / competition.sample_submission)
    theirs = pd.read_csv(path, dtype=str, keep_default_na=False)
    differing = int((expected != theirs).any(axis=1).sum())
    return Check(not differing, f"{differing} of {len(expected)} rows differ from the repository's predictions")


def score_of(submitted: Path, solution: Path, competition: Competition) -> float:
    """Sample-F1 of the submission.

    Raises:
        StageError: the solution lacks an image that was submitted.
    """
    columns = [competition.image_column, competition.label_column]
    ours, truth = (pd.read_csv(path, dtype=str, keep_default_na=False)[columns] for path in (submitted, solution))
    both = ours.merge(truth, on=competition.image_column, how="left", suffixes=("_ours", "_true"))
    if both.isna().any(axis=None):
        missing = both[both.isna().any(axis=1)][competition.image_column]
        raise StageError(f"rehearse.solution={solution} has no row for {len(missing)} images, {missing.iloc[0]} first")
    predicted, true = (
        competition.one_hot(competition.label_lists(both[f"{competition.label_column}_{side}"]))
        for side in ("ours", "true")
    )
    return sample_f1(predicted, true)


if __name__ == "__main__":
    main()
