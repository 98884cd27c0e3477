"""Test images are told apart from training images where they are of another kind, and only there."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from support.commands import TINY, run_module

pytestmark = pytest.mark.slow  # it trains


def with_more_test_images(raw: Path, target: Path, change) -> Path:
    """Copy a competition, with 40 test images more: training images after a change."""
    shutil.copytree(raw, target)
    names = [path.name for path in sorted((raw / "train_images").iterdir())[:40]]
    for name in names:
        with Image.open(raw / "train_images" / name) as image:
            change(image.convert("RGB")).save(target / "test_images" / f"more-{name}", "JPEG", quality=95)
    form = target / "sample_submission.csv"
    form.write_text(form.read_text() + "".join(f"more-{name},healthy\n" for name in names))
    return target


@pytest.fixture(scope="module")
def halves(raw, tmp_path_factory) -> Path:
    """Return a folder with a finished run on one of two folds, which are large enough to compare with."""
    folder = tmp_path_factory.mktemp("halves")
    for module, *arguments in (["prepare"], ["datastore", "push"], ["train", "-m", "model.lr=1e-3"]):
        settings = (*arguments, *TINY, "prepare.folds=2", "trainer.max_epochs=1", f"paths.raw={raw}")
        done = run_module(module, *settings, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def selected(folder: Path, raw: Path, *more: str) -> tuple[dict, str]:
    """Select, and return shift.json and what was printed."""
    done = run_module("select", *TINY, f"paths.raw={raw}", *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "reports/shift.json").read_text()), done.stdout


def test_dark_test_images_are_told_apart_and_those_that_differ_most_are_shown(raw, halves, tmp_path):
    raw = with_more_test_images(raw, tmp_path / "raw", lambda image: image.point(lambda value: value // 3))
    first, *_ = sorted((raw / "test_images").glob("more-*"))
    first.write_bytes(b"no image")
    shift, printed = selected(halves, raw)
    assert shift["auc"] > 0.8 and shift["test"] == 47 and "warning: a classifier tells 47 test images and" in printed
    assert len(shift["images"]) == 12 and all("more-" in each["image"] for each in shift["images"][:6])
    done = run_module("report", *TINY, f"paths.raw={raw}", cwd=halves)
    assert done.returncode == 0, done.stderr
    page = (halves / "reports/index.html").read_text()
    assert "the test images are of another kind" in page and f'alt="{shift["images"][0]["image"]}"' in page


def test_test_images_like_the_training_images_are_no_warning(raw, halves, tmp_path):
    shift, printed = selected(halves, with_more_test_images(raw, tmp_path / "raw", lambda image: image))
    assert shift["auc"] < 0.7 and "warning: a classifier" not in printed and "tells 48 test images" in printed


def test_a_last_training_is_judged_by_the_network_that_left_out_a_fold(raw, halves, tmp_path):
    more = with_more_test_images(raw, tmp_path / "raw", lambda image: image.rotate(90))
    folder = shutil.copytree(halves, tmp_path / "f")
    before, _ = selected(folder, more)
    settings = (*TINY, "prepare.folds=2", "trainer.max_epochs=1", "model.lr=1e-3", "train.last=1")
    done = run_module("train", "-m", *settings, f"paths.raw={raw}", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    shift, printed = selected(folder, more)
    assert "beside it predicts" in printed and shift == before
    shift, printed = selected(folder, more, "select.folds=false")
    assert "in its place predicts" in printed and shift == before


def test_too_few_or_no_test_images_are_no_error(raw, halves, tmp_path):
    shift, printed = selected(halves, raw)
    assert (shift["auc"], shift["images"]) == (None, [])
    assert "there are 8 test images, and 30 are needed" in printed
    assert "there are 0 test images, and 30 are needed" in selected(halves, tmp_path / "absent")[1]
