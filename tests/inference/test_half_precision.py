"""What counts as a decision that half precision changed."""

import numpy as np
import pytest

from plant_pathology.inference.decision import LIKELIEST, NUMBER, SIGMOID, THRESHOLDS, Decision
from plant_pathology.inference.half_precision import changed_share

SURE = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])


@pytest.mark.parametrize(
    "decision, half, share",
    [
        (Decision(LIKELIEST, np.zeros(0)), SURE + 0.05 * np.array([1, -1]), 0.0),
        (Decision(LIKELIEST, np.zeros(0)), np.vstack([SURE[:3], [[0.6, 0.4]]]), 0.25),
        (Decision(THRESHOLDS, np.array([0.5, 0.5])), np.vstack([SURE[:2], [[0.7, 0.55], [0.55, 0.6]]]), 0.5),
        (Decision(SIGMOID, np.array([1.0, 0, 0])), SURE + 0.009, 0.0),
        (Decision(SIGMOID, np.array([1.0, 0, 0])), SURE + np.array([[0, 0], [0, 0.02], [0, 0], [0, 0]]), 0.25),
        (Decision(LIKELIEST, np.zeros(0)), np.where(SURE == 0.9, np.inf, SURE), 1.0),
        (Decision(LIKELIEST, np.zeros(0)), np.where(SURE == 0.9, np.nan, SURE), 1.0),
    ],
)
def test_the_share_of_changed_decisions(decision, half, share):
    assert changed_share(decision, SURE, half) == share


def test_a_number_may_move_by_a_share_of_its_standard_deviation():
    decision, full = Decision(NUMBER, np.array([0.0, 100.0])), np.array([[10.0], [90.0]])
    assert changed_share(decision, full, full + np.array([[0.1], [0.3]]), std=20) == 0.5
