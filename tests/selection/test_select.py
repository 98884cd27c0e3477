"""Selection from stored predictions: thresholds, calibration, ensembles, intervals, leaderboard, bundle."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.task import Task, identity_calibration
from plant_pathology.competition.time_limit import TimeLimit
from plant_pathology.core.errors import UserError
from plant_pathology.data.predictions import Predictions, read_predictions
from plant_pathology.inference.decision import EXPECTED_F1, LIKELIEST, THRESHOLDS, Decision, above_thresholds, log_odds
from plant_pathology.runs.sweep_lists import chosen_sweep, enter_sweep
from plant_pathology.selection.bootstrap import Score, confidence_interval, paired_gain
from plant_pathology.selection.calibration import fit_sigmoid
from plant_pathology.selection.candidates import candidates_of
from plant_pathology.selection.crossfit import best_rules, crossfit
from plant_pathology.selection.decisions import interpolate, offers, tune_decisions
from plant_pathology.selection.eligibility import comparable, eligible
from plant_pathology.selection.ensemble import Budget, blend, build_ensembles
from plant_pathology.selection.leaderboard import leaderboard
from plant_pathology.selection.pipeline import select
from plant_pathology.selection.thresholds import tune_thresholds
from plant_pathology.selection.trained_runs import TrainedRun
from support.commands import config, run_module

COMPETITION = Competition.from_config(config())
LABELS = list(COMPETITION.target.labels)
METRIC = metric_of("sample_f1")
TASK = Task("several", METRIC, len(LABELS))
OFFERED = offers(TASK, None)
PER_LABEL = OFFERED.index((THRESHOLDS, 1.0))
EXPECTED, CALIBRATED = (OFFERED.index((EXPECTED_F1, share)) for share in (0.0, 1.0))


def leaves(rows, seed=0, noise=1.0, members=1, offsets=0.0):
    """Draw labels, and probabilities of networks with independent errors; `offsets` shift each label's log-odds."""
    rng = np.random.default_rng(seed)
    true = rng.random((rows, len(LABELS))) < 0.3
    logits = 3 * true - 1.5 + noise * rng.normal(size=(members, *true.shape)) + offsets
    return (1 / (1 + np.exp(-logits))).astype(np.float32), true


def sample_f1(probabilities, thresholds, true):
    return METRIC.score(true, above_thresholds(probabilities, thresholds))


def best_threshold(probabilities, true):
    """Return the common threshold of the plain decision, and its score."""
    return TASK.plain_decision(probabilities, true).values[0], TASK.plain_score(probabilities, true)


def crossfitted(stack, true, task=TASK):
    """Return, by ensemble rule, (offered, n) F1 of each row."""
    scores = crossfit(list(stack), true, unlimited(len(stack)), task, offers(task, None), seed=0)
    return {rule: np.stack([each.rows for each in offered]) for rule, offered in scores.items()}


def scored(rows):
    """Return scores whose rows are given."""
    return [Score(METRIC, each.mean(), np.zeros(len(each)), each, np.zeros(len(each))) for each in rows]


def unlimited(members):
    return Budget(np.ones((members, 1)), np.array([np.inf]))


def test_no_change_of_a_single_threshold_improves_tuned_ones():
    (probabilities,), true = leaves(120, offsets=np.linspace(-2, 2, len(LABELS)))
    common, before = best_threshold(probabilities, true)
    thresholds = tune_thresholds(probabilities, true, common)
    reached = sample_f1(probabilities, thresholds, true)
    assert reached > before + 0.02
    for label, values in enumerate(probabilities.T):
        for value in [0.0, *(np.sort(values) + 1e-9)]:
            trial = thresholds.copy()
            trial[label] = value
            assert sample_f1(probabilities, trial, true) <= reached + 1e-9


def test_thresholds_per_label_win_where_labels_need_different_ones():
    stack, true = leaves(150, noise=1.5, offsets=np.linspace(-2, 2, len(LABELS)))
    scores = crossfitted(stack, true)["best_1"]
    assert (
        best_rules({"best_1": scored(scores[:EXPECTED])}).decision > 0
        and scores[PER_LABEL].mean() > scores[0].mean() + 0.02
    )


@pytest.mark.slow
def test_crossfitting_is_not_fooled_by_gains_on_the_rows_tuned_on():
    seeming, real = [], []
    for seed in range(4):
        (probabilities,), true = leaves(150, seed=seed, noise=2.0)
        common, before = best_threshold(probabilities, true)
        seeming.append(sample_f1(probabilities, tune_thresholds(probabilities, true, common), true) - before)
        scores = crossfitted(probabilities[None], true)["best_1"]
        real.append(scores[PER_LABEL].mean() - scores[0].mean())
    assert np.mean(seeming) > np.mean(real) + 0.02


def test_expected_f1_beats_thresholds_on_calibrated_probabilities():
    """The probabilities are exact posteriors: each label is observed with a known amount of noise."""
    rng = np.random.default_rng(0)
    true = rng.random((1500, len(LABELS))) < 0.3
    noise = rng.choice([0.5, 2.0], true.shape)
    evidence = np.where(true, 1, -1) + noise * rng.normal(size=true.shape)
    probabilities = 1 / (1 + 0.7 / 0.3 * np.exp(-2 * evidence / noise**2))
    scores = crossfitted(probabilities[None].astype(np.float32), true)["best_1"]
    assert scores[EXPECTED].mean() > scores[:EXPECTED].mean(axis=1).max() + 0.005
    assert fit_sigmoid(probabilities, true) == pytest.approx(identity_calibration(len(LABELS)), abs=0.25)


def test_miscalibrated_probabilities_are_calibrated():
    stack, true = leaves(1500, noise=1.5, offsets=np.linspace(-2, 2, len(LABELS)))
    scores = crossfitted(stack, true)["best_1"]
    assert OFFERED[best_rules({"best_1": scored(scores)}).decision] == (EXPECTED_F1, 1.0)
    slope, *shifts = fit_sigmoid(stack[0], true)
    odds = slope * log_odds(stack[0]) + shifts
    # Calibrated: the mean probability of each label is its frequency.
    assert (1 / (1 + np.exp(-odds))).mean(axis=0) == pytest.approx(true.mean(axis=0), abs=0.01)
    # Log-odds of two normal distributions at distance 3: 3 times the observation divided by the variance, 1.5 squared.
    assert slope == pytest.approx(3 / 1.5**2, rel=0.1)


def test_calibration_stays_finite_with_few_rows_all_predicted_right():
    true = np.eye(4, len(LABELS), dtype=bool)
    assert 1 < fit_sigmoid(np.where(true, 0.6, 0.4), true)[0] < 5
    assert np.isfinite(log_odds(np.where(true, 1.0, 0.0))).all()


def test_the_best_rules_win_and_among_equals_the_simplest():
    scores = {"best_1": np.full((len(OFFERED), 9), 0.5), "greedy": np.full((len(OFFERED), 9), 0.5)}
    chosen = best_rules({rule: scored(rows) for rule, rows in scores.items()})
    assert (chosen.ensemble, chosen.decision) == ("best_1", 0)
    scores["greedy"][2] = 0.6
    chosen = best_rules({rule: scored(rows) for rule, rows in scores.items()})
    assert (chosen.ensemble, chosen.decision) == ("greedy", 2)
    assert chosen.score.value == pytest.approx(0.6) and chosen.plain.value == pytest.approx(0.5)
    chosen = best_rules({rule: scored(rows) for rule, rows in scores.items()}, first=3)
    assert (chosen.ensemble, chosen.decision) == ("best_1", 3)


def test_the_better_of_two_networks_gets_more_weight():
    (good,), true = leaves(600, noise=1.5)
    logits = 3 * true - 1.5 + 2.5 * np.random.default_rng(9).normal(size=true.shape)
    stack = np.stack([good, 1 / (1 + np.exp(-logits))]).astype(np.float32)
    counts = build_ensembles(list(stack), true, unlimited(2), TASK)["greedy"]
    assert counts[0] > counts[1] > 0


def test_offered_decisions_range_from_plain_to_tuned():
    (probabilities,), true = leaves(200, offsets=np.linspace(-2, 2, len(LABELS)))
    offered = tune_decisions(OFFERED, TASK, probabilities, true)
    assert [each.by for each in offered] == [by for by, _ in OFFERED]
    common, _ = best_threshold(probabilities, true)
    assert offered[0].values.tolist() == [common] * len(LABELS)
    assert offered[PER_LABEL].values == pytest.approx(tune_thresholds(probabilities, true, common))
    halfway = offered[OFFERED.index((THRESHOLDS, 0.5))]
    assert halfway.values == pytest.approx((offered[0].values + offered[PER_LABEL].values) / 2)
    assert offered[EXPECTED].values == pytest.approx(identity_calibration(len(LABELS)))
    assert offered[CALIBRATED].values == pytest.approx(fit_sigmoid(probabilities, true))


def test_single_label_competitions_always_choose_the_likeliest_label():
    probabilities, task = np.array([[0.6, 0.7, 0.1]]), Task("one", metric_of("accuracy"), 3)
    (decision,) = tune_decisions(offers(task, None), task, probabilities, np.array([0]))
    assert decision.by == LIKELIEST and decision.decide(probabilities).tolist() == [1]


@pytest.mark.slow
def test_an_ensemble_of_independent_networks_beats_the_best_one_on_held_out_rows():
    stack, true = leaves(800, noise=2.0, members=5)
    fit = crossfitted(stack, true)
    assert fit["greedy"][0].mean() > fit["best_1"][0].mean() + 0.02
    assert best_rules({rule: scored(rows) for rule, rows in fit.items()}).ensemble in ("best_5", "greedy")
    counts = build_ensembles(list(stack), true, unlimited(5), TASK)["greedy"]
    assert (counts > 0).sum() >= 4
    assert best_threshold(blend(stack, counts), true)[1] > max(best_threshold(each, true)[1] for each in stack)


def test_a_network_that_guesses_gets_no_weight():
    stack, true = leaves(400, members=2)
    guess = np.random.default_rng(1).random((1, *true.shape), np.float32)
    assert build_ensembles(list(np.concatenate([guess, stack])), true, unlimited(3), TASK)["greedy"][0] == 0


def test_every_ensemble_fits_every_limit_of_the_budget():
    stack, true = leaves(300, noise=2.0, members=6)
    costs = np.column_stack([np.ones(6), [90, 90, 90, 10, 10, 10]])
    for limits in ([3, 1000], [6, 100]):
        for counts in build_ensembles(list(stack), true, Budget(costs, np.array(limits)), TASK).values():
            assert (costs[counts > 0].sum(axis=0) <= limits).all()


def test_single_label_competitions_are_scored_by_accuracy():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 300)
    stack = rng.dirichlet(np.ones(4), (1, 300)).astype(np.float32) + 0.3 * np.eye(4, dtype=np.float32)[true]
    fit = crossfitted(stack, true, Task("one", metric_of("accuracy"), 4))
    right = stack[0].argmax(axis=1) == true
    np.testing.assert_allclose(fit["best_1"], np.broadcast_to(right, fit["best_1"].shape), atol=1e-9)
    assert fit["greedy"] == pytest.approx(fit["best_1"])


def test_the_confidence_interval_is_that_of_the_mean_and_reproducible():
    scores = np.random.default_rng(0).normal(0.5, 1.0, 4000)
    low, high = confidence_interval(*scored([scores]))
    # 1.96 standard errors on either side.
    assert low == pytest.approx(scores.mean() - 1.96 * scores.std() / 4000**0.5, abs=0.003)
    assert high == pytest.approx(scores.mean() + 1.96 * scores.std() / 4000**0.5, abs=0.003)
    assert confidence_interval(*scored([scores])) == (low, high)


def test_a_gain_whose_interval_contains_zero_is_noise():
    theirs = np.random.default_rng(0).random(400)
    differences = np.random.default_rng(1).normal(0, 0.1, 400)
    differences -= differences.mean()
    assert paired_gain(*scored([theirs + differences, theirs])).noise
    better = paired_gain(*scored([theirs + differences + 0.1, theirs]))
    assert not better.noise and better.low < 0.1 < better.high and better.gain == pytest.approx(0.1)


def trained_run(name, fold, rows, lr=0.001, seed=0, extra=None, stopped=None):
    """Return a run as `train` leaves it."""
    (probabilities,), true = leaves(rows, seed=seed)
    score = TASK.plain_score(probabilities, true)
    images = np.array([f"{fold}-{number}.jpg" for number in range(rows)])
    settings = {"model": {"name": "resnet18", "lr": lr}, "data": {"fold": fold, "batch_size": 32, **(extra or {})}}
    result = {"run": name, "config": settings, "data": "abc", "code": "def", "data_ref": "sample:1"}
    result |= {"metric": "sample_f1", "score": score, "val_score": score}
    result |= {"epoch": fold, "epochs": 5, "seconds": 10.0, "images_per_second": 100.0}
    predictions = Predictions(images, LABELS, true, probabilities)
    return TrainedRun(Path(name), result | {"stopped": stopped}, predictions)


def test_runs_that_differ_only_in_the_fold_are_one_row_with_an_out_of_fold_score():
    folds = [trained_run(f"a-{fold}", fold, 20 + fold, seed=fold) for fold in (2, 0, 1)]
    other = trained_run("b", 0, 20, lr=0.01, stopped="asked to")
    read = candidates_of([*folds, other], TASK)
    kept, left_out = comparable(read)
    assert [each.name for each in kept] == ["a-0"]
    why = "predicted fold 0 (20 images), not folds 0 and 1 and 2 (63 images): scores on other images do not compare"
    assert left_out == {"b": why}
    table = leaderboard(read, COMPETITION, left_out)
    assert table["run"].tolist() == ["a-0", "b"] and table["left_out"].tolist() == ["", left_out["b"]]
    board = table.set_index("run")
    assert board.loc["a-0", ["folds", "best_epoch", "epochs", "seconds"]].tolist() == [3, 2, 5, 30.0]
    parts = [run.predictions for run in folds]
    pooled = TASK.plain_score(
        *(np.concatenate([getattr(each, part) for each in parts]) for part in ("outputs", "true"))
    )
    assert board["score"]["a-0"] == pytest.approx(pooled, abs=1e-6)
    assert board["low"]["a-0"] < pooled < board["high"]["a-0"]
    assert board["stopped"]["b"] == "asked to"


def test_runs_that_predicted_one_image_are_refused():
    with pytest.raises(UserError, match="the runs predicted 1 image of their folds, and a choice needs at least 2"):
        eligible(candidates_of([trained_run("a", 0, 1)], TASK), config(), TimeLimit())


def test_every_key_that_varies_in_the_sweep_is_a_column_of_the_leaderboard():
    sizes = [{"batch_size": 16}, {"batch_size": 64, "crop": {"least": 0.5}}]
    runs = [trained_run(f"r{number}", 0, 20, extra=extra) for number, extra in enumerate(sizes)]
    board = leaderboard(candidates_of(runs, TASK), COMPETITION).set_index("run")
    assert board.loc["r0", ["data.batch_size", "data.crop.least"]].tolist() == [16, ""]
    assert board.loc["r1", ["data.batch_size", "data.crop.least"]].tolist() == [64, 0.5]
    assert "data.fold" not in board


@pytest.mark.parametrize(
    "runs, budget, expected",
    [
        ("*lr0.001-*", "select.networks=9", "no ensemble: there is only one candidate\n"),
        ("*lr*", "select.networks=2", "no ensemble: no other candidate predicted the same images and fits the kernel"),
        ("*lr*", "select.networks=4", "ensemble ("),
    ],
)
def test_the_summary_says_whether_there_was_an_ensemble_and_why_not(trained, tmp_path, capsys, runs, budget, expected):
    for folder in (trained / "runs").glob(runs):
        shutil.copytree(folder, tmp_path / "runs" / folder.name)
        enter_sweep(tmp_path / "runs" / folder.name)
    folders = [f"paths.{name}={tmp_path}/{name}" for name in ("runs", "models", "reports")]
    select(config(budget, *folders, f"store.uri=file://{trained}/store", "data.ref=plant-pathology:1"))
    printed = capsys.readouterr().out
    assert expected in printed and ("ensemble (" in printed) is ("ensemble (" in expected)
    rule = json.loads((tmp_path / "reports/metrics.json").read_text())["ensemble"]["rule"]
    assert (rule is not None) is ("ensemble (" in expected)


def test_the_reports_of_a_real_sweep_agree_with_each_other_and_the_bundle(project):
    """Two candidates of two folds each, through `dvc repro`."""
    reports = project / "reports"
    board, members, thresholds, predictions = (
        pd.read_csv(reports / f"{name}.csv") for name in ("leaderboard", "ensemble", "thresholds", "predictions")
    )
    spec = json.loads((project / "models/best/bundle.json").read_text())
    metrics = json.loads((reports / "metrics.json").read_text())
    assert len(board) == 2 and (board["folds"] == 2).all() and metrics["runs"] == 4
    assert board["run"].map(lambda name: (project / "runs" / name).is_dir()).all()
    assert ((board["low"] <= board["score"]) & (board["score"] <= board["high"])).all()
    assert len(spec["members"]) == members["networks"].sum() == metrics["kernel"]["networks"] == 2 * len(members)
    assert members["weight"].sum() == pytest.approx(1, abs=1e-3) and set(members["configuration"]) <= set(board["run"])
    by, share = metrics["decision"]["by"], metrics["decision"]["share"]
    if by == THRESHOLDS:
        assert spec["decision"]["values"] == pytest.approx(thresholds["used"].tolist(), abs=1e-4)
        expected = interpolate(thresholds["common"], thresholds["tuned"], share)
        assert thresholds["used"].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    else:
        assert thresholds["used"].isna().all()
    assert spec["decision"]["by"] == by and (by, share) in OFFERED
    stored = read_predictions(reports / "predictions.npz")
    decided = Decision(by, np.array(spec["decision"]["values"])).decide(stored.outputs)
    assert (decided == stored.chosen).all() and stored.images.tolist() == predictions["image"].tolist()
    assert predictions["predicted"].tolist() == [" ".join(np.array(stored.labels)[row]) for row in decided]
    assert spec["score"]["validation"] == metrics["score"]
    # Each image is predicted by the networks that were not trained on it, with their weights.
    expected = sum(
        2 * member["weight"] * pd.DataFrame(run.outputs, run.images).reindex(predictions["image"]).fillna(0)
        for member in spec["members"]
        for run in [read_predictions(project / "runs" / member["run"] / "validation.npz")]
    )
    np.testing.assert_allclose(stored.outputs, expected, atol=1e-6)
    assert set(predictions["fold"]) == {0, 1}
    weights = [load_file(project / "models/best" / member["weights"]) for member in spec["members"]]
    assert len({each["fc.weight"].tobytes() for each in weights}) == len(weights)
    assert not list((project / "models/best").glob("*.ckpt"))


def test_failed_runs_are_left_out_and_listed(project, tmp_path):
    (tmp_path / "runs").mkdir()
    entered = chosen_sweep(project / "runs")
    for name in entered[:3]:
        (tmp_path / "runs" / name).symlink_to(project / "runs" / name)
    (tmp_path / "runs" / entered[3]).mkdir()
    for name in entered:
        enter_sweep(tmp_path / "runs" / name)
    data = (f"store.uri=file://{project}/store", f"paths.pointer={project}/datastore.json")
    done = run_module("select", "competition=sample", *data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"failed or have not finished: {entered[3]}" in done.stdout
    assert sum(pd.read_csv(tmp_path / "reports/leaderboard.csv")["folds"]) == 3
    assert "is left out: predicted fold" in done.stdout
    assert "no ensemble: there is only one candidate" in done.stdout
