"""Predict in half precision on a GPU, if that changes hardly any decision on the bundle's own reference images.

A T4 multiplies in 16 bits several times as fast as in 32. Whether a network bears it depends on its weights: numbers
above 65,504 overflow. So it is tried with images that travel in the bundle, before any image of the competition.
"""

from pathlib import Path

import numpy as np

from plant_pathology.inference.decision import NUMBER, SIGMOID, SOFTMAX, Decision

REFERENCE = "reference.npz"  # in a bundle: some images that the networks were validated on
MAX_CHANGED = 0.02  # share of the reference images with another decision in half precision
TOLERANCE = 0.01  # of a probability, or of a number in standard deviations, that counts as the same


def read_reference(folder: Path) -> np.ndarray:
    """Return a bundle's reference images, (n, side, side, 3) uint8."""
    with np.load(folder / REFERENCE, allow_pickle=False) as content:
        return content["images"]


def write_reference(folder: Path, images: np.ndarray) -> None:
    """Write reference images, (n, side, side, 3) uint8, with the same bytes for the same images."""
    np.savez_compressed(folder / REFERENCE, images=images)


def changed_share(decision: Decision, full: np.ndarray, half: np.ndarray, std: float = 1.0) -> float:
    """Return the share of images that are decided otherwise in half precision.

    Args:
        full, half: (n, outputs), predicted in 32 and in 16 bits.
        std: standard deviation of the numbers that are predicted.
    """
    if not np.isfinite(half).all():
        return 1.0
    one, other = decision.decide(full), decision.decide(half)
    smooth = decision.by in (NUMBER, SIGMOID, SOFTMAX)
    differs = np.abs(one - other) > TOLERANCE * std if smooth else one != other
    return float(differs.reshape(len(differs), -1).any(axis=1).mean())
