"""Train on a mean of the labels and of what a teacher predicts: distillation (Hinton et al. 2015).

With binary cross-entropy, and with cross-entropy, the loss of a mean of two targets is the mean of their losses. The
teacher's predictions are taken as they are, which is a temperature of 1.
"""

import torch
from torch import Tensor

from plant_pathology.inference.outputs import NUMBER, SEVERAL
from plant_pathology.training.loss import as_shares


def distilled(targets: Tensor, teacher: Tensor, share: float, kind: str) -> Tensor:
    """Move targets towards the teacher's predictions; those of images that it did not predict stay.

    Args:
        targets: (n, labels) float for several labels, (n,) int64 for one of them, (n,) float for numbers.
        teacher: (n, labels) probabilities, or (n, 1) numbers; NaN where there is no prediction.
        share: of the teacher in the mean: `model.distill`.
        kind: of the target.

    Returns:
        (n, labels) float, or (n,) float for numbers.
    """
    if kind == NUMBER:
        teacher = teacher[:, 0]
    elif kind != SEVERAL:
        targets = as_shares(targets, teacher.shape[1])
    return torch.where(teacher.isnan(), targets, torch.lerp(targets, teacher, share))
