"""Selection by any metric: its direction, its intervals, the decisions that it is worth tuning, and many classes."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.task import KEPT, Task
from plant_pathology.core.errors import UserError
from plant_pathology.data.predictions import Predictions, read_predictions, write_predictions
from plant_pathology.inference.decision import CUTS, LIKELIEST, NUMBER, RANKING, SIGMOID, SOFTMAX, Decision
from plant_pathology.selection.bootstrap import confidence_interval, paired_gain, score_of
from plant_pathology.selection.bundle import fallback_of
from plant_pathology.selection.crossfit import best_rules, crossfit
from plant_pathology.selection.decisions import offers, tune_decisions
from plant_pathology.selection.ensemble import Budget, build_ensembles


def unlimited(members):
    return Budget(np.ones((members, 1)), np.array([np.inf]))


def classes(rows, labels, noise, shares=None, members=1, seed=0):
    """Draw class numbers, and probabilities by Bayes' rule of observations with this much noise."""
    rng = np.random.default_rng(seed)
    true = rng.choice(labels, rows, p=shares)
    logits = 2 * np.eye(labels)[true] / noise + rng.normal(size=(members, rows, labels))
    logits = 2 * logits / noise + np.log(shares if shares is not None else np.ones(labels))
    likelihood = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (likelihood / likelihood.sum(axis=2, keepdims=True)).astype(np.float32), true


def test_of_an_error_the_smaller_is_better():
    rng = np.random.default_rng(0)
    true = rng.normal(10, 3, 400).astype(np.float32)
    good, bad = ((true + rng.normal(0, noise, 400))[:, None].astype(np.float32) for noise in (0.5, 3.0))
    task = Task("number", metric_of("rmse"), 1, low=0.0, high=30.0)
    counts = build_ensembles([bad, good], true, unlimited(2), task)
    assert counts["best_1"].tolist() == [0, 1]
    scores = crossfit([bad, good], true, unlimited(2), task, offers(task, None), seed=0)
    assert scores["best_1"][0].value == pytest.approx(0.5, abs=0.1)
    better, worse = (score_of(task.metric, true, each[:, 0]) for each in (good, bad))
    gain = paired_gain(better, worse)
    assert gain.gain == pytest.approx(worse.value - better.value) and gain.low > 0 and not gain.noise
    low, high = confidence_interval(better)
    assert low < better.value < high and high - low < 0.2
    assert paired_gain(better, better) == (0.0, 0.0, 0.0, True)


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "macro_f1", "quadratic_weighted_kappa", "accuracy"])
def test_every_metric_has_an_interval_around_its_value(name):
    (probabilities,), true = classes(400, 4, noise=1.2)
    task = Task("ordinal" if "kappa" in name else "one", metric_of(name), 4)
    decided = task.plain_decision(probabilities, true).decide(probabilities)
    score = score_of(task.metric, true, decided)
    low, high = confidence_interval(score)
    assert low < score.value < high and high - low < 0.25


def test_a_bootstrap_sample_without_a_class_does_not_spoil_the_interval():
    true = np.array([0] * 30 + [1])
    score = score_of(metric_of("roc_auc"), true, np.stack([1 - true, true], axis=1) * 0.6 + 0.2)
    assert np.isfinite(confidence_interval(score)).all()


@pytest.mark.slow
def test_cuts_are_tuned_where_expected_classes_are_pulled_to_the_middle():
    (probabilities,), true = classes(300, 5, noise=1.5)
    pulled = 0.6 * probabilities + 0.4 / 5
    task = Task("ordinal", metric_of("quadratic_weighted_kappa"), 5)
    offered = offers(task, None)
    scores = crossfit([pulled], true, unlimited(1), task, offered, seed=0)
    best = best_rules({"best_1": scores["best_1"]})
    rule, share = offered[best.decision]
    assert rule == CUTS and share > 0 and best.score.value > scores["best_1"][0].value + 0.02
    assert np.all(np.diff(tune_decisions(offered, task, pulled, true)[4].values) > 0)


def test_rare_classes_weigh_more_for_macro_f1_and_not_for_accuracy():
    shares = np.array([0.7, 0.2, 0.05, 0.05])
    (probabilities,), true = classes(3000, 4, noise=2.0, shares=shares)
    task = Task("one", metric_of("macro_f1"), 4)
    scores = crossfit([probabilities], true, unlimited(1), task, offers(task, None), seed=0)["best_1"]
    best = best_rules({"best_1": scores})
    assert best.decision > 0 and best.score.value > scores[0].value + 0.02
    assert offers(Task("one", metric_of("accuracy"), 4), None) == [(LIKELIEST, 0.0)]


@pytest.mark.parametrize("kind, rule", [("one", SOFTMAX), ("several", SIGMOID)])
def test_overconfident_probabilities_are_calibrated_for_log_loss(kind, rule):
    (honest,), classes_of_rows = classes(1500, 4, noise=1.5)
    true = classes_of_rows if kind == "one" else np.eye(4, dtype=bool)[classes_of_rows]
    overconfident = honest**4
    overconfident /= overconfident.sum(axis=1, keepdims=True)
    task = Task(kind, metric_of("log_loss"), 4)
    offered = offers(task, None)
    scores = crossfit([overconfident], true, unlimited(1), task, offered, seed=0)["best_1"]
    best = best_rules({"best_1": scores})
    assert offered[best.decision] == (rule, 1.0) and best.score.value < scores[0].value - 0.05
    tuned = tune_decisions(offered, task, overconfident, true)[-1].decide(overconfident)
    if kind == "one":
        assert tuned.sum(axis=1) == pytest.approx(1)
        # The slope undoes the fourth power.
        assert tune_decisions(offered, task, overconfident, true)[-1].values[0] == pytest.approx(0.25, abs=0.08)


def test_a_decision_can_be_chosen_and_one_that_does_not_fit_is_refused():
    task = Task("ordinal", metric_of("quadratic_weighted_kappa"), 5)
    assert offers(task, LIKELIEST) == [(CUTS, 0.0), (LIKELIEST, 0.0)]  # the plain decision, and the one to choose
    with pytest.raises(
        UserError, match="select.decision=sigmoid does not fit target.kind=ordinal .*choose cuts or lik"
    ):
        offers(task, SIGMOID)


@pytest.mark.parametrize("name, rule", [("accuracy", LIKELIEST), ("macro_f1", LIKELIEST), ("map_at_5", RANKING)])
def test_many_classes_of_which_the_likeliest_are_stored_score_as_all_of_them(name, rule):
    task = Task("one", metric_of(name), 1200)
    dense, true = classes(120, 1200, noise=0.7, members=2)
    kept = np.sort(np.partition(dense, -KEPT, axis=2)[:, :, -KEPT:], axis=2)[:, :, :1]
    dense = np.where(dense >= kept, dense, 0).astype(np.float32)
    assert task.sparse and not Task("one", metric_of("log_loss"), 1200).sparse
    assert offers(task, None)[0][0] == rule
    all_of_them, stored = (
        crossfit(stack, true, unlimited(2), task, offers(task, None)[:1], seed=0)
        for stack in (list(dense), [csr_array(each) for each in dense])
    )
    for ensemble, (score, *_) in all_of_them.items():
        assert stored[ensemble][0].value == pytest.approx(score.value, abs=1e-9), ensemble
        assert (stored[ensemble][0].decided == score.decided).mean() > 0.99


@pytest.mark.parametrize(
    "true, outputs, labels",
    [
        (np.array([2, 0]), np.float32([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]), ["a", "b", "c"]),
        (np.array([[True, False], [True, True]]), np.float32([[0.9, 0.1], [0.6, 0.7]]), ["a", "b"]),
        (np.float32([1.5, 2.5]), np.float32([[1.0], [2.0]]), []),
        (np.array([2, 0]), csr_array(np.float32([[0.1, 0, 0.7], [0.8, 0.1, 0]])), ["a", "b", "c"]),
    ],
)
def test_predictions_are_read_as_they_were_written(tmp_path, true, outputs, labels):
    write_predictions(tmp_path / "p.npz", Predictions(np.array(["x.jpg", "y.jpg"]), labels, true, outputs, true))
    read = read_predictions(tmp_path / "p.npz")
    assert read.images.tolist() == ["x.jpg", "y.jpg"] and read.labels == labels
    assert (read.true == true).all() and (read.chosen == true).all() and read.true.dtype == true.dtype
    dense = [each if isinstance(each, np.ndarray) else each.toarray() for each in (read.outputs, outputs)]
    assert (dense[0] == dense[1]).all()


@pytest.mark.parametrize(
    "true, decided, outputs, expected",
    [
        (np.array([1, 1, 0]), np.array([0, 1, 1]), 3, [1]),
        (np.array([1, 1, 0]), np.array([[0, 1], [1, 0], [1, 2]]), 3, [[1, 0]]),
        (np.array([1, 1, 0, 2]), np.full((4, 3), 0.2), 3, [[0.25, 0.5, 0.25]]),
        (np.array([[True, False], [True, False], [True, True]]), np.zeros((3, 2), bool), 2, [[True, False]]),
        (np.float32([1.0, 2.0, 6.0]), np.float64([1.0, 2.0, 3.0]), 1, [3.0]),
    ],
)
def test_an_unreadable_image_gets_the_most_frequent_answer_or_the_mean(true, decided, outputs, expected):
    assert fallback_of(true, decided, outputs).tolist() == expected


def test_numbers_stay_in_the_range_of_the_training_table():
    decision = Task("number", metric_of("mae"), 1, low=1.0, high=100.0).plain_decision(np.zeros((2, 1)), np.zeros(2))
    assert decision.by == NUMBER and decision.decide(np.array([[-5.0], [250.0]])).tolist() == [1.0, 100.0]
    assert Decision(NUMBER, np.array([-np.inf, np.inf])).decide(np.array([[-5.0]])).tolist() == [-5.0]
