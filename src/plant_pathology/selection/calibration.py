"""Calibrate probabilities: one slope for all log-odds, one bias per label.

Temperature scaling (Guo et al. 2017) with one bias per label (Alexandari, Kundaje and Shrikumar 2020), for labels that
do not exclude each other.
"""

import numpy as np
from scipy.optimize import minimize

from plant_pathology.inference.decision import log_odds


def fit_calibration(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Fit the slope and the biases that minimize cross-entropy on these rows.

    Half the squared distance from `identity_calibration` is added to the sum over rows. This penalty matters only with
    few rows; it keeps the slope finite where every label is predicted on the right side.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.

    Returns:
        (1 + labels,) float64: the slope, then the biases.
    """
    odds, identity = log_odds(probabilities), identity_calibration(true.shape[1])

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        calibrated, distance = values[0] * odds + values[1:], values - identity
        error = 1 / (1 + np.exp(-calibrated)) - true
        entropy = (np.logaddexp(0, calibrated) - true * calibrated).sum()
        gradient = np.concatenate([[(error * odds).sum()], error.sum(axis=0)])
        return (entropy + distance @ distance / 2) / len(true), (gradient + distance) / len(true)

    return minimize(loss, identity, jac=True, method="L-BFGS-B").x


def identity_calibration(labels: int) -> np.ndarray:
    """Return the calibration that changes nothing, (1 + labels,): slope 1, biases 0."""
    return np.eye(1, 1 + labels)[0]
