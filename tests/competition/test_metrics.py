"""The metric, its best threshold, and the choice of labels by expected F1."""

from itertools import product

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.metrics import f1_score

from plant_pathology.competition.metrics import metric_of, row_f1
from plant_pathology.competition.task import GRID, Task, best_threshold, f1_by_threshold
from plant_pathology.inference.decision import above_thresholds
from plant_pathology.inference.expected_f1 import best_sets
from plant_pathology.selection.decisions import offers, tune_decisions

SAMPLE_F1 = metric_of("sample_f1")


def sample_f1(predicted, true):
    return SAMPLE_F1.score(true, predicted)


@pytest.mark.parametrize("seed", range(20))
def test_sample_f1_equals_scikit_learn_also_for_empty_rows(seed):
    rng = np.random.default_rng(seed)
    predicted, true = rng.random((2, 200, 6)) < rng.uniform(0.02, 0.6)
    predicted[:5] = false_rows = np.zeros((5, 6), bool)
    true[3:8] = false_rows
    expected = f1_score(true, predicted, average="samples", zero_division=0)
    assert sample_f1(predicted, true) == pytest.approx(expected, abs=1e-12)


def test_with_one_label_per_row_sample_f1_is_the_accuracy():
    rng = np.random.default_rng(0)
    predicted, true = np.eye(4, dtype=bool)[rng.integers(0, 4, (2, 500))]
    assert sample_f1(predicted, true) == pytest.approx((predicted & true).any(axis=1).mean())


def test_every_row_gets_a_label():
    probabilities = np.array([[0.1, 0.3, 0.2], [0.6, 0.7, 0.1]])
    assert above_thresholds(probabilities, 0.5).tolist() == [[False, True, False], [True, True, False]]


@pytest.mark.parametrize("name", ["accuracy", "micro_f1", "macro_f1"])
def test_where_a_row_may_be_empty_one_whose_labels_are_improbable_is(name):
    rng, metric = np.random.default_rng(0), metric_of(name)
    true = np.eye(3, dtype=bool)[rng.integers(0, 3, 300)] & (rng.random((300, 1)) < 0.5)
    probabilities = np.where(true, 0.8, 0.2) + rng.uniform(-0.1, 0.1, true.shape)
    task = Task("several", metric, 3, empty=True)
    decision = task.plain_decision(probabilities, true)
    assert task.plain_score(probabilities, true) == 1 and decision.empty
    for decision in tune_decisions(offers(task, None), task, probabilities, true):
        assert metric.score(true, decision.decide(probabilities)) == 1


@pytest.mark.parametrize("name, expected", [("roc_auc", sk.roc_auc_score), ("log_loss", sk.log_loss)])
def test_of_one_label_the_probability_is_scored_alone(name, expected):
    rng = np.random.default_rng(0)
    true, probabilities = rng.integers(0, 4, 200), rng.dirichlet(np.ones(4), 200)
    metric = metric_of(name).of_label(2)
    score = metric.score(true, probabilities)
    assert score == pytest.approx(expected(true == 2, probabilities[:, 2]))
    assert metric.score(np.eye(4, dtype=bool)[true], probabilities) == score
    assert metric.rows is None or metric.rows(true, probabilities).mean() == score


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_no_other_label_set_has_a_higher_expected_f1(labels):
    """Compare with brute force over all label sets and all truths."""
    probabilities = np.random.default_rng(labels).random((100, labels)) ** 2
    sets = np.array(list(product([False, True], repeat=labels)))
    f1 = np.stack([row_f1(sets, np.broadcast_to(each, sets.shape)) for each in sets])
    likely = np.where(sets, probabilities[:, None], 1 - probabilities[:, None]).prod(axis=2)
    expected = likely @ f1.T
    chosen = best_sets(probabilities) @ (1 << np.arange(labels)[::-1])
    assert np.take_along_axis(expected, chosen[:, None], axis=1)[:, 0] == pytest.approx(expected.max(axis=1))


def test_a_second_label_is_added_next_to_an_uncertain_one_only():
    unsure, sure = best_sets(np.array([[0.4, 0.5], [0.4, 0.99]]))
    assert unsure.tolist() == [True, True] and sure.tolist() == [False, True]


def test_with_all_probabilities_zero_the_first_label_is_chosen():
    assert best_sets(np.zeros((1, 3))).tolist() == [[True, False, False]]


def test_the_best_threshold_is_the_best_of_the_grid():
    rng = np.random.default_rng(1)
    true = rng.random((300, 6)) < 0.3
    probabilities = np.clip(0.25 * true + rng.random((300, 6)) * 0.5, 0, 1)
    threshold = best_threshold(probabilities, true, SAMPLE_F1)
    f1 = sample_f1(above_thresholds(probabilities, threshold), true)
    assert all(f1 >= sample_f1(above_thresholds(probabilities, other), true) for other in np.linspace(0.05, 0.95, 91))


@pytest.mark.parametrize("seed", range(5))
def test_one_pass_over_all_thresholds_equals_scoring_each_alone(seed):
    rng = np.random.default_rng(seed)
    true = rng.random((200, 5)) < 0.3
    probabilities = np.where(rng.random((200, 5)) < 0.5, rng.choice(GRID, (200, 5)), rng.random((200, 5)))
    expected = [sample_f1(above_thresholds(probabilities, threshold), true) for threshold in GRID]
    np.testing.assert_allclose(f1_by_threshold(probabilities, true), expected, atol=1e-12)


RNG = np.random.default_rng


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_one_label_equal_scikit_learn_s(seed):
    rng = RNG(seed)
    true, decided = rng.integers(0, 6, (2, 300))
    decided[rng.random(300) < 0.5] = true[rng.random(300) < 0.5][0]
    probabilities = rng.dirichlet(np.ones(6), 300)
    one_hot = np.eye(6)[true]
    expected = {
        "accuracy": sk.accuracy_score(true, decided),
        "micro_f1": sk.f1_score(true, decided, average="micro"),
        "macro_f1": sk.f1_score(true, decided, average="macro", zero_division=0),
        "quadratic_weighted_kappa": sk.cohen_kappa_score(true, decided, labels=range(6), weights="quadratic"),
        "log_loss": sk.log_loss(true, probabilities, labels=range(6)),
        "roc_auc": sk.roc_auc_score(one_hot, probabilities, average="macro"),
    }
    for name, value in expected.items():
        given = probabilities if metric_of(name).scores == "probabilities" else decided
        assert metric_of(name).score(true, given) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_several_labels_equal_scikit_learn_s(seed):
    rng = RNG(seed)
    true, decided = rng.random((2, 200, 5)) < rng.uniform(0.05, 0.6, 5)
    probabilities = np.where(rng.random((200, 5)) < 0.3, 0.5, rng.random((200, 5)))  # with ties
    expected = {
        "accuracy": sk.accuracy_score(true, decided),
        "micro_f1": sk.f1_score(true, decided, average="micro"),
        "macro_f1": sk.f1_score(true, decided, average="macro", zero_division=0),
        "log_loss": np.mean([sk.log_loss(true[:, label], probabilities[:, label]) for label in range(5)]),
        "roc_auc": sk.roc_auc_score(true, probabilities, average="macro"),
    }
    for name, value in expected.items():
        given = probabilities if metric_of(name).scores == "probabilities" else decided
        assert metric_of(name).score(true, given) == pytest.approx(value, abs=1e-12), name


def test_errors_and_rankings_equal_their_definitions():
    rng = RNG(0)
    true, decided = rng.normal(size=(2, 100))
    assert metric_of("rmse").score(true, decided) == pytest.approx(sk.root_mean_squared_error(true, decided))
    assert metric_of("mae").score(true, decided) == pytest.approx(sk.mean_absolute_error(true, decided))
    classes, ranking = np.array([3, 1, 2, 0]), np.array([[3, 1, 2], [0, 1, 2], [0, 1, 2], [1, 2, 3]])
    assert metric_of("map_at_3").score(classes, ranking) == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert metric_of("top_3_error").score(classes, ranking) == pytest.approx(0.25)
    scores = rng.random((50, 8))
    truth = rng.integers(0, 8, 50)
    top = sk.top_k_accuracy_score(truth, scores, k=3, labels=range(8))
    order = np.argsort(-scores, axis=1)[:, :3]
    assert metric_of("top_3_error").score(truth, order) == pytest.approx(1 - top)


def test_a_label_that_all_or_no_rows_have_is_left_out_of_the_roc_auc():
    true = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]], bool)
    decided = np.array([[0.2, 0.1, 0.9], [0.1, 0.2, 0.3], [0.4, 0.3, 0.8]])
    assert metric_of("roc_auc").score(true, decided) == 1.0
    assert np.isnan(metric_of("roc_auc").score(true[:, :2], decided[:, :2]))


def test_errors_have_the_sign_that_makes_higher_better():
    true = np.zeros(4)
    assert metric_of("rmse").signed(true, np.full(4, 0.5)) > metric_of("rmse").signed(true, np.full(4, 2.0))
    assert {name: metric_of(name).sign for name in ("accuracy", "log_loss", "top_2_error", "map_at_2")} == {
        "accuracy": 1,
        "log_loss": -1,
        "top_2_error": -1,
        "map_at_2": 1,
    }
