"""The last training: a run on all images takes the place of the runs that left out a fold, which vouch for it."""

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
    commands = (["train", "-m", "train.folds=2", "train.last=true", "model.lr=1e-3"], ["select"], ["report"])
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


def test_its_network_predicts_with_the_score_and_the_decision_of_the_folds(last):
    spec = json.loads((last / "models/best/bundle.json").read_text())
    (member,), (run,) = spec["members"], last.glob("runs/*foldall*")
    assert member["run"] == run.name and member["weight"] == 1
    folds = [each for each in last.glob("runs/*lr0.001*") if each != run]
    predictions = pd.read_csv(last / "reports/predictions.csv")
    assert len(predictions) == sum(len(read_predictions(each / "validation.npz").images) for each in folds)
    metrics = json.loads((last / "reports/metrics.json").read_text())
    assert metrics["on_all_images"] == 1 and metrics["kernel"]["networks"] == 1
    assert metrics["score"] == spec["score"]["validation"]
    assert f"{run.name} predicts in its place, trained on all images for 2 epochs" in (last / "select.txt").read_text()
    assert "predict with a network that was trained on all images" in (last / "reports/index.html").read_text()
