import numpy as np
import pytest
from sklearn.metrics import f1_score

from plant_pathology.metrics import THRESHOLDS, best_threshold, common_scores, decide, sample_f1


@pytest.mark.parametrize("seed", range(20))
def test_sample_f1_equals_scikit_learn_also_on_empty_rows(seed):
    rng = np.random.default_rng(seed)
    predicted, true = rng.random((2, 200, 6)) < rng.uniform(0.02, 0.6)
    predicted[:5] = false_rows = np.zeros((5, 6), bool)
    true[3:8] = false_rows
    expected = f1_score(true, predicted, average="samples", zero_division=0)
    assert sample_f1(predicted, true) == pytest.approx(expected, abs=1e-12)


def test_with_one_label_a_row_sample_f1_is_the_accuracy():
    rng = np.random.default_rng(0)
    predicted, true = np.eye(4, dtype=bool)[rng.integers(0, 4, (2, 500))]
    assert sample_f1(predicted, true) == pytest.approx((predicted & true).any(axis=1).mean())


def test_no_row_is_left_without_a_label():
    probabilities = np.array([[0.1, 0.3, 0.2], [0.6, 0.7, 0.1]])
    assert decide(probabilities, 0.5).tolist() == [[False, True, False], [True, True, False]]


def test_a_single_label_competition_gets_the_likeliest_only():
    probabilities = np.array([[0.6, 0.7, 0.1]])
    assert decide(probabilities, 0.5, multilabel=False).tolist() == [[False, True, False]]


def test_the_best_threshold_is_the_best_of_all_that_were_tried():
    rng = np.random.default_rng(1)
    true = rng.random((300, 6)) < 0.3
    probabilities = np.clip(0.25 * true + rng.random((300, 6)) * 0.5, 0, 1)
    threshold, f1 = best_threshold(probabilities, true)
    assert f1 == sample_f1(decide(probabilities, threshold), true)
    assert all(f1 >= sample_f1(decide(probabilities, other), true) for other in np.linspace(0.05, 0.95, 91))


@pytest.mark.parametrize("seed", range(5))
def test_all_common_thresholds_are_scored_in_one_pass(seed):
    rng = np.random.default_rng(seed)
    true = rng.random((200, 5)) < 0.3
    probabilities = np.where(rng.random((200, 5)) < 0.5, rng.choice(THRESHOLDS, (200, 5)), rng.random((200, 5)))
    expected = [sample_f1(decide(probabilities, threshold), true) for threshold in THRESHOLDS]
    np.testing.assert_allclose(common_scores(probabilities, true), expected, atol=1e-12)
