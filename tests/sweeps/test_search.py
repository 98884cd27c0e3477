"""Search with Optuna through the real command line, and continue it after a kill or a failed run."""

import json
import time

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hydra_plugins.optuna_search import distribution
from support.commands import TINY, start_module
from support.small_runs import runs, train

SEARCH = ["-m", "hydra/sweeper=optuna"]
INTERVAL = "model.lr=tag(log, interval(1e-4, 1e-2))"


def study(root, name=None):
    storage = f"sqlite:///{root}/runs/search.db"
    return optuna.load_study(study_name=name, storage=storage)


def indexed(root):
    return json.loads((root / "runs" / "sweep.json").read_text())["runs"]


def f1(folder):
    return json.loads((folder / "result.json").read_text())["val_score"]


@pytest.mark.parametrize(
    "override, expected",
    [
        ("model=resnet18,resnet34", CategoricalDistribution(["resnet18", "resnet34"])),
        ("model.lr=choice(1e-4, 1e-3)", CategoricalDistribution([1e-4, 1e-3])),
        ("data.fold=range(1, 8, 3)", IntDistribution(1, 7, step=3)),
        ("data.augment.crop=range(0.5, 1.0, 0.25)", FloatDistribution(0.5, 0.75, step=0.25)),
        ("data.augment.rotate=interval(0.0, 30.0)", FloatDistribution(0.0, 30.0)),
        ("data.batch_size=int(interval(8, 64))", IntDistribution(8, 64)),
        ("model.lr=tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_every_hydra_sweep_syntax_becomes_a_search_space(override, expected):
    assert distribution(OverridesParser.create().parse_override(override)) == expected


@pytest.mark.slow
def test_a_killed_search_continues_and_reports_the_best_f1(root):
    search = ["name=line_${model.lr}", INTERVAL, "trainer.max_epochs=20"]
    process = start_module("train", *SEARCH, *TINY, *search, "hydra.sweeper.n_trials=2", cwd=root)
    deadline = time.monotonic() + 300
    try:
        while not (begun := run_after_the_first(root)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    again = train(root, *SEARCH, *search, "hydra.sweeper.n_trials=3").stdout
    assert again.count("finished before") == 1 and "continues after" in (begun / "log.txt").read_text()
    assert len(indexed(root)) == 3 and indexed(root) == [run.name for run in runs(root, "line_")]
    [summary] = optuna.get_all_study_summaries(f"sqlite:///{root}/runs/search.db")
    found = study(root, summary.study_name)
    assert [trial.state for trial in found.trials] == [TrialState.COMPLETE] * 3
    assert found.best_value == max(map(f1, runs(root, "line_")))
    rates = {trial.params["model.lr"] for trial in found.trials}
    assert len(rates) == 3 and all(1e-4 <= rate <= 1e-2 for rate in rates)


def run_after_the_first(root):
    """Return the run that trains, as soon as another one has finished."""
    training = [path.parents[1] for path in (root / "runs").glob("line_*/checkpoints/*.ckpt")]
    finished = list((root / "runs").glob("line_*/result.json"))
    return next((run for run in training if finished and not (run / "result.json").exists()), None)


@pytest.mark.slow
def test_a_failed_run_is_listed_its_trial_stays_open_and_the_search_continues(root):
    search = [*SEARCH, "name=part_${model.lr}", "hydra/sweeper/sampler=random", "hydra.sweeper.n_jobs=2"]
    search += ["model.lr=choice(0.001,1000)", "hydra.sweeper.n_trials=6", "hydra.sweeper.study_name=failing"]
    done = train(root, *search, "trainer.max_epochs=1", expect=1)
    assert "1 of 2 runs failed" in done.stderr and "model.lr=1000" in done.stderr
    assert {(trial.params["model.lr"], trial.state) for trial in study(root, "failing").trials} == {
        (0.001, TrialState.COMPLETE),
        (1000, TrialState.RUNNING),
    }


@pytest.mark.slow
def test_a_trial_trains_all_folds_and_its_score_is_their_mean(root):
    search = ["name=folds", INTERVAL, "train.folds=2", "trainer.max_epochs=1", "hydra.sweeper.n_trials=1"]
    train(root, *SEARCH, *search, "hydra.sweeper.study_name=folds")
    first, second = sorted(runs(root, "folds"), key=lambda folder: "-fold1-" in folder.name)
    assert second.name.startswith("folds-fold1-")
    [trial] = study(root, "folds").trials
    assert set(trial.params) >= {"model.lr"} and "data.fold" not in trial.params
    assert trial.value == pytest.approx((f1(first) + f1(second)) / 2)


@pytest.mark.slow
def test_the_best_trial_is_told_by_the_metric_s_own_number_and_its_direction_is_no_option(root):
    search = ["name=loss", "competition.metric=log_loss", "competition.submit.as=columns", "trainer.max_epochs=1"]
    done = train(root, *SEARCH, *search, INTERVAL, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=loss")
    best = min(-f1(run) for run in runs(root, "loss"))
    assert f"loss: best of 2: log_loss {best:.4f} with" in done.stdout and best > 0
    refused = train(root, *SEARCH, *search, INTERVAL, "hydra.sweeper.direction=minimize", expect=1)
    assert "hydra.sweeper.direction" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_searches_that_start_at_once_make_one_database_for_all(root):
    names, rest = ("one", "two", "three"), (INTERVAL, "trainer.max_epochs=1", "hydra.sweeper.n_trials=1")
    searches = [
        start_module("train", *SEARCH, *TINY, *rest, f"name={name}", f"hydra.sweeper.study_name={name}", cwd=root)
        for name in names
    ]
    assert [search.wait() for search in searches] == [0, 0, 0]
    assert [len(study(root, name).trials) for name in names] == [1, 1, 1]


@pytest.mark.slow
def test_a_study_of_another_search_is_refused(root):
    search = [*SEARCH, INTERVAL, "name=mine", "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine"]
    train(root, *search, "trainer.max_epochs=1")
    train(root, *search, "trainer.max_epochs=1")
    for change, what in (
        ("trainer.max_epochs=2", "config"),
        ("data.batch_size=8,16", "values to search"),
        ("train.folds=2", "folds"),
    ):
        done = train(root, *search, "trainer.max_epochs=1", change, expect=1)
        assert (
            f"the study of this name in sqlite:///./runs/search.db is of another search: {what} differ" in done.stderr
        )
    assert len(study(root, "mine").trials) == 1 and len(runs(root, "mine")) == 1
