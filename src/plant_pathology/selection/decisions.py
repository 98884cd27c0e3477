"""Tune the decision rules that cross-fitting compares.

A rule with values tuned on few rows overfits. So each rule is also offered with only a share of the tuning: between the
common threshold and one per label, or between raw and calibrated probabilities.
"""

import numpy as np

from plant_pathology.competition.metrics import best_threshold
from plant_pathology.inference.decision import EXPECTED_F1, LIKELIEST, THRESHOLDS, Decision
from plant_pathology.selection.calibration import fit_calibration, identity_calibration
from plant_pathology.selection.thresholds import tune_thresholds

# (rule, share of the tuning). The first one is the common threshold, with which the others are compared.
OFFERED = [(THRESHOLDS, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] + [(EXPECTED_F1, s) for s in (0.0, 0.5, 1.0)]
COMMON, PER_LABEL = OFFERED.index((THRESHOLDS, 0.0)), OFFERED.index((THRESHOLDS, 1.0))


def tune_decisions(probabilities: np.ndarray, true: np.ndarray, multilabel: bool) -> list[Decision]:
    """Tune every decision of OFFERED on these rows.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.
        multilabel: False returns the likeliest label for each of OFFERED: with one label per row, nothing is tuned.
    """
    if not multilabel:
        return [Decision(LIKELIEST, np.empty(0))] * len(OFFERED)
    common, _ = best_threshold(probabilities, true)
    plain_and_tuned = {
        THRESHOLDS: (np.full(true.shape[1], common), tune_thresholds(probabilities, true, common)),
        EXPECTED_F1: (identity_calibration(true.shape[1]), fit_calibration(probabilities, true)),
    }
    return [Decision(rule, interpolate(*plain_and_tuned[rule], share)) for rule, share in OFFERED]


def interpolate(plain: np.ndarray, tuned: np.ndarray, share: float) -> np.ndarray:
    """Return the values at `share` of the way from the plain to the tuned ones."""
    return plain + share * (tuned - plain)
