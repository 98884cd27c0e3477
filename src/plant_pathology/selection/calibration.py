"""Calibrate probabilities: one slope for all log-odds or logarithms, one bias per label.

Temperature scaling (Guo et al. 2017) with one bias per label (Alexandari, Kundaje and Shrikumar 2020), for labels that
do not exclude each other (sigmoid) and for those that do (softmax).

Half the squared distance from the calibration that changes nothing is added to the sum over rows. This penalty matters
only with few rows; it keeps the slope finite where every label is predicted on the right side.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from plant_pathology.competition.task import identity_calibration
from plant_pathology.inference.decision import TINY, log_odds, softmax


def fit_sigmoid(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Fit the slope and the biases of independent labels that minimize cross-entropy on these rows.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.

    Returns:
        (1 + labels,) float64: the slope, then the biases.
    """

    def entropy_and_error(calibrated: np.ndarray) -> tuple[float, np.ndarray]:
        entropy = (np.logaddexp(0, calibrated) - true * calibrated).sum()
        return entropy, 1 / (1 + np.exp(-calibrated)) - true

    return fit(log_odds(probabilities), entropy_and_error)


def fit_softmax(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Fit the slope and the biases of labels that exclude each other; arguments and result as for `fit_sigmoid`.

    Args:
        true: (n,) class numbers.
    """
    rows = np.arange(len(true))

    def entropy_and_error(calibrated: np.ndarray) -> tuple[float, np.ndarray]:
        p = softmax(calibrated)
        entropy = -np.log(p[rows, true].clip(TINY)).sum()
        p[rows, true] -= 1
        return entropy, p

    return fit(np.log(probabilities.astype(np.float64).clip(TINY)), entropy_and_error)


def fit(odds: np.ndarray, entropy_and_error: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> np.ndarray:
    """Minimize the penalized cross-entropy of slope * odds + biases.

    Args:
        odds: (n, labels).
        entropy_and_error: returns the cross-entropy of calibrated odds, and its derivative by each of them.
    """
    identity = identity_calibration(odds.shape[1])

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        distance = values - identity
        entropy, error = entropy_and_error(values[0] * odds + values[1:])
        gradient = np.concatenate([[(error * odds).sum()], error.sum(axis=0)])
        return (entropy + distance @ distance / 2) / len(odds), (gradient + distance) / len(odds)

    return minimize(loss, identity, jac=True, method="L-BFGS-B").x
