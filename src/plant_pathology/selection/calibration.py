"""What brings probabilities to hold: log-odds times one slope, plus a shift of each label.

Temperature scaling (Guo et al. 2017) with a bias a label (Alexandari, Kundaje and Shrikumar 2020), for labels that do
not exclude each other.
"""

import numpy as np
from scipy.optimize import minimize

from plant_pathology.inference.decision import log_odds


def fitted(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(1 + labels,): slope and shifts with the least cross-entropy on these rows.

    Half the squared distance from `unchanged` is added to the sum over all rows: it matters where they are few, and
    keeps a slope from growing without end where all of them are told right.

    Args:
        probabilities: (n, labels).
        true: (n, labels) bool.
    """
    odds, plain = log_odds(probabilities), unchanged(true.shape[1])

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        moved, apart = values[0] * odds + values[1:], values - plain
        error = 1 / (1 + np.exp(-moved)) - true
        entropy = (np.logaddexp(0, moved) - true * moved).sum()
        gradient = np.concatenate([[(error * odds).sum()], error.sum(axis=0)])
        return (entropy + apart @ apart / 2) / len(true), (gradient + apart) / len(true)

    return minimize(loss, plain, jac=True, method="L-BFGS-B").x


def unchanged(labels: int) -> np.ndarray:
    """(1 + labels,): the slope of 1 and the shifts of 0 by which probabilities stay what they are."""
    return np.eye(1, 1 + labels)[0]
