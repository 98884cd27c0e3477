"""The metric, its best threshold, and the choice of labels by expected F1."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score

from plant_pathology.competition.metrics import GRID, best_threshold, f1_by_threshold, row_f1, sample_f1
from plant_pathology.inference.decision import decide
from plant_pathology.inference.expected_f1 import best_sets


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
    assert decide(probabilities, 0.5).tolist() == [[False, True, False], [True, True, False]]


def test_with_one_label_per_image_the_likeliest_alone_is_chosen():
    probabilities = np.array([[0.6, 0.7, 0.1]])
    assert decide(probabilities, 0.5, multilabel=False).tolist() == [[False, True, False]]


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_no_other_label_set_has_a_higher_expected_f1(labels):
    """Compare with brute force over all label sets and all truths."""
    probabilities = np.random.default_rng(labels).random((100, labels)) ** 2
    sets = np.array(list(product([False, True], repeat=labels)))
    f1 = np.stack([row_f1(np.broadcast_to(each, sets.shape), sets) for each in sets])
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
    threshold, f1 = best_threshold(probabilities, true)
    assert f1 == sample_f1(decide(probabilities, threshold), true)
    assert all(f1 >= sample_f1(decide(probabilities, other), true) for other in np.linspace(0.05, 0.95, 91))


@pytest.mark.parametrize("seed", range(5))
def test_one_pass_over_all_thresholds_equals_scoring_each_alone(seed):
    rng = np.random.default_rng(seed)
    true = rng.random((200, 5)) < 0.3
    probabilities = np.where(rng.random((200, 5)) < 0.5, rng.choice(GRID, (200, 5)), rng.random((200, 5)))
    expected = [sample_f1(decide(probabilities, threshold), true) for threshold in GRID]
    np.testing.assert_allclose(f1_by_threshold(probabilities, true), expected, atol=1e-12)
