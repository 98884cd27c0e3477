"""Limits of the numbers that may be submitted: runs know those that they were scored with."""

import shutil

import pandas as pd
import pytest

from support.commands import TINY, run_module
from support.small_runs import runs, train

NUMBERS = (
    "competition.target={kind:number,column:labels,labels:null}",
    "competition.metric=rmse",
    "competition.submit={as:number,low:1,high:30}",
)


@pytest.mark.slow
def test_runs_of_other_limits_are_named_with_the_key_and_others_are_trained_beside_them(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    for name in ("train.csv", "sample_submission.csv"):
        table = pd.read_csv(tmp_path / "raw" / name)
        table.assign(labels=[1 + row % 30 for row in range(len(table))]).to_csv(tmp_path / "raw" / name, index=False)
    settings = ["paths.raw=raw", "trainer.max_epochs=1", "name=number", *NUMBERS]
    for module in (["prepare"], ["datastore", "push"]):
        assert run_module(*module, *TINY, *settings, cwd=tmp_path).returncode == 0
    train(tmp_path, "-m", *settings, "train.folds=1")
    before = runs(tmp_path, "number")
    done = run_module("select", *TINY, *settings, "competition.submit.high=15", cwd=tmp_path)
    assert done.returncode == 1 and "was made for competition.submit.high=30, which is 15 today" in done.stderr
    train(tmp_path, "-m", *settings, "train.folds=1", "competition.submit.high=15")
    assert len(runs(tmp_path, "number")) == 2 * len(before)
