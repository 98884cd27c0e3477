"""Runs and sweeps through the real command line, on a network small enough for tests."""

import json

import pandas as pd
import pytest
import torch
import yaml

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.task import Task
from plant_pathology.data.predictions import read_predictions
from support.commands import TINY, on_a_small_disk
from support.small_runs import runs, train


@pytest.fixture(scope="module")
def by_views(root):
    """Train two runs that differ in test-time augmentation; return {number of views: run folder}."""
    train(root, "-m", "name=single", "data.views=4,1", "model.lr=1e-3")
    settings = {folder: json.loads((folder / "run.json").read_text())["config"] for folder in runs(root, "single")}
    return {each["data"]["views"]: folder for folder, each in settings.items()}


@pytest.fixture(scope="module")
def run(by_views):
    return by_views[4]


@pytest.mark.slow
def test_a_run_folder_holds_config_metrics_weights_predictions_and_result(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.csv", "best.ckpt", "run.json", "validation.npz", "result.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["name"] == "test_resnet"
    assert pd.read_csv(run / "metrics.csv")["epoch"].tolist() == [0, 1]


@pytest.mark.slow
def test_settings_of_prepare_that_the_data_was_not_prepared_with_are_told(root):
    common = ["name=told", "trainer.max_epochs=1"]
    assert "which runs train on" not in train(root, *common).stdout
    said = train(root, *common, "prepare.extra=more/none.csv", "prepare.folds=7", "prepare.duplicates=drop").stdout
    for before, now in (
        ("extra=null", "extra=more/none.csv"),
        ("folds=5", "folds=7"),
        ("duplicates=keep", "duplicates=drop"),
    ):
        assert f"has prepare.{before}, which runs train on; prepare.{now} counts once the data is prepared" in said


def test_more_mixed_batches_than_there_are_is_refused_before_training(root):
    done = train(root, "name=mixed", "data.mix.mixup=0.8", "data.mix.cutmix=0.8", expect=1)
    assert "error: data.mix.mixup=0.8 and data.mix.cutmix=0.8: a batch is mixed in one way" in done.stderr
    assert not runs(root, "mixed")


def test_the_result_is_the_score_of_the_saved_predictions(run):
    result = json.loads((run / "result.json").read_text())
    stored = read_predictions(run / "validation.npz")
    task = Task("several", metric_of("sample_f1"), len(stored.labels))
    assert task.plain_score(stored.outputs, stored.true) == result["score"] == result["val_score"]
    assert result["metric"] == "sample_f1"


@pytest.mark.slow
def test_a_full_disk_gives_one_error_line_and_leaves_no_partial_checkpoint(root):
    done = on_a_small_disk(
        *("train", *TINY, "paths.runs=small", "name=full"),
        cwd=root,
        kilobytes=300,
        afterwards="ls -A small/full*",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert ".ckpt: No space left on device: make room there" in done.stderr
    assert "ckpt" not in done.stdout.partition("config.yaml")[2] and "result.json" not in done.stdout


def test_checkpoints_load_without_running_code(run):
    torch.load(run / "best.ckpt", weights_only=True)


def test_a_finished_run_returns_its_result_and_changes_no_file(root, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = train(root, "name=single")
    assert "finished before" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_number_of_workers_does_not_change_a_run_s_identity(root, run):
    assert "finished before" in train(root, "name=single", "data.workers=2").stdout


def test_epochs_are_validated_without_tta_and_the_result_with_tta(by_views):
    run, plain = by_views[4], by_views[1]
    epochs = [pd.read_csv(folder / "metrics.csv")["val_sample_f1"] for folder in (run, plain)]
    assert epochs[0].tolist() == epochs[1].tolist()
    assert json.loads((plain / "result.json").read_text())["score"] == pytest.approx(epochs[1].max())
    stored = [read_predictions(folder / "validation.npz").outputs for folder in (run, plain)]
    assert not (stored[0] == stored[1]).all()


def test_more_folds_than_prepared_give_one_error_line(root):
    done = train(root, "-m", "train.folds=6", expect=1)
    assert done.stderr.strip() == "error: train.folds=6: choose a whole number from 1 to prepare.folds=5"
    for count in ("10", "true", "-1"):
        done = train(root, "-m", f"train.last={count}", expect=1)
        assert done.stderr.strip().endswith(": choose a whole number from 0 to 9")


@pytest.mark.slow
def test_a_sweep_trains_every_combination_and_a_restart_only_missing_runs(root):
    """Values may be written as a range, as choices, or with commas as in the other tests."""
    axes = ["seed=range(1,3)", "model=choice(test_resnet,test_efficientnet)", "model.lr=1e-3"]
    sweep = ["-m", "name=grid", "trainer.max_epochs=1", *axes]
    train(root, *sweep)
    # Four runs, although `name` is the same for all.
    grid = runs(root, "grid")
    settings = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in grid]
    assert {(each["seed"], each["model"]["name"]) for each in settings} == {
        (seed, model) for seed in (1, 2) for model in ("test_resnet", "test_efficientnet")
    }
    index = json.loads((root / "runs" / "sweep.json").read_text())
    assert len(grid) == 4 and index["runs"] == [path.name for path in grid]
    (grid[0] / "result.json").unlink()
    again = train(root, *sweep)
    assert again.stdout.count("finished before") == 3 and runs(root, "grid") == grid
    assert (grid[0] / "result.json").exists()


@pytest.mark.parametrize(
    "override, expected",
    [
        ("model=resnet19", "did you mean resnet18"),
        ("model.lrr=1", "model.lrr"),
        ("data.fold=7", "data.fold=7"),
        ("data.batch_size=500", "data.batch_size=500"),
        ("data.batch_size=0", "data.batch_size=0: choose a whole number from 1"),
        ("model.lr=fast", "model.lr=fast: choose a number from 0"),
        ("data.views=3", "data.views=3: choose one of 1, 2, 4, 8"),
        ("data.augment.crop=3", "data.augment.crop=3: choose a number from 0.01 to 1"),
        ("trainer.precision=foo", "trainer.precision=foo: choose one of 32-true"),
    ],
)
def test_a_wrong_override_gives_one_error_line_that_names_it(root, override, expected):
    done = train(root, override, expect=1)
    assert expected in done.stderr and "Traceback" not in done.stderr
