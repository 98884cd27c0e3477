"""The last training: runs on all images predict beside those that left out a fold, which vouch for them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plant_pathology.core.sealed import read_sealed
from plant_pathology.data.predictions import read_predictions
from plant_pathology.runs.folder import read_epochs
from plant_pathology.training.data import CHECKED
from support.commands import TINY, run_module

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture(scope="module")
def last(raw, trained, tmp_path_factory) -> Path:
    """Return `trained` after a sweep that adds the last training, and its selection."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("last") / "f"))
    commands = (["train", "-m", "train.folds=2", "train.last=1", "model.lr=1e-3"], ["select"], ["report"])
    for module, *arguments in commands:
        done = run_module(module, *arguments, *TINY, f"paths.raw={raw}", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / f"{module}.txt").write_text(done.stdout)
    return folder


def test_a_run_on_all_images_validates_nothing_and_keeps_its_last_epoch(last):
    (run,) = last.glob("runs/*foldall*")
    result, rows = read_sealed(run / "result.json"), read_epochs(run)
    assert result["score"] is result["val_score"] is None and result["epoch"] == 1 and len(rows) == 2
    assert not [column for column in rows[0] if column.startswith("val_")]
    checked = read_predictions(run / "validation.npz")
    assert len(checked.images) == CHECKED and np.isfinite(checked.outputs).all()
    assert "trained on all images for 2 epochs" in (run / "log.txt").read_text()


def test_its_network_predicts_beside_the_folds_with_their_score_and_decision(last):
    spec = json.loads((last / "models/best/bundle.json").read_text())
    (run,) = last.glob("runs/*foldall*")
    folds = [each for each in last.glob("runs/*lr0.001*") if each != run]
    assert {each["run"]: each["weight"] for each in spec["members"]} == {
        each.name: pytest.approx(1 / 3) for each in (*folds, run)
    }
    predictions = pd.read_csv(last / "reports/predictions.csv")
    assert len(predictions) == sum(len(read_predictions(each / "validation.npz").images) for each in folds)
    metrics = json.loads((last / "reports/metrics.json").read_text())
    assert metrics["on_all_images"] == 1 and metrics["kernel"]["networks"] == 3
    assert metrics["score"] == spec["score"]["validation"]
    told = f"beside it predicts what was trained on all images for 2 epochs ({run.name})"
    assert told in (last / "select.txt").read_text()
    assert "predict with networks that were trained on all images" in (last / "reports/index.html").read_text()


def test_where_the_kernel_has_no_room_for_the_folds_too_that_is_said(last):
    done = run_module("select", *TINY, "select.networks=2", cwd=last)
    assert done.returncode == 1 and done.stderr.endswith("; select.folds=false takes fewer networks\n")
    assert run_module("select", *TINY, "select.networks=1", "select.folds=false", cwd=last).returncode == 0


def test_several_trainings_on_all_images_have_seeds_of_their_own_and_may_predict_without_the_folds(last, raw, tmp_path):
    folder, more = Path(shutil.copytree(last, tmp_path / "f")), ("train.folds=2", "train.last=3", "model.lr=1e-3")
    for module, *arguments in (["train", "-m", *more], ["select", "select.folds=false"]):
        done = run_module(module, *arguments, *TINY, f"paths.raw={raw}", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "in its place predicts what was trained on all images" in done.stdout
    members = json.loads((folder / "models/best/bundle.json").read_text())["members"]
    runs = [next(folder.glob(f"runs/*-fold{fold}-????????")) for fold in ("all", "all2", "all3")]
    assert {each["run"]: each["weight"] for each in members} == {run.name: pytest.approx(1 / 3) for run in runs}
    losses = [[row["train_loss"] for row in read_epochs(run)] for run in runs]
    assert losses[0] != losses[1] != losses[2] != losses[0]
    assert losses[0] == [row["train_loss"] for row in read_epochs(next(last.glob("runs/*foldall*")))]
    done = run_module("train", *TINY, "data.fold=all", "seed=2022", "name=next", "model.lr=1e-3", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["train_loss"] for row in read_epochs(next(folder.glob("runs/next*")))] == losses[1]
