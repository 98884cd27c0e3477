"""Compute the training loss from logits: the one that fits the target and the metric, or the one that is named."""

from collections.abc import Callable

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor
from torch.nn import functional

from plant_pathology.competition.task import Task
from plant_pathology.core.errors import UserError

Loss = Callable[[Tensor, Tensor], Tensor]
GAMMA = 2.0  # of the focal loss, as its authors recommend
# Ridnik et al. 2021, with the exponents and the margin of their experiments on MS-COCO.
_asymmetric = AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=1, clip=0.05, reduction="mean")


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy that counts labels less which are right already (Lin et al. 2017, "Focal Loss")."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = (logits.sigmoid() - targets).abs()
    return (wrong**GAMMA * entropy).mean()


def focal_exclusive(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy that counts images less whose label is likely already (Lin et al. 2017, "Focal Loss")."""
    log, shares = logits.log_softmax(dim=1), as_shares(targets, logits.shape[1])
    return -(shares * (1 - log.exp()) ** GAMMA * log).sum(dim=1).mean()


def soft_f1(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the F1 of each image with probabilities in the place of decisions."""
    probabilities = logits.sigmoid()
    common = 2 * (probabilities * targets).sum(dim=1)
    return 1 - (common / (probabilities + targets).sum(dim=1).clamp(min=1e-6)).mean()


LOSSES: dict[str, Loss] = {
    "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    "focal": focal,
    "asymmetric": _asymmetric,
    "soft_f1": soft_f1,
    "cross_entropy": functional.cross_entropy,
    "focal_exclusive": focal_exclusive,
    "squared_error": functional.mse_loss,
    "absolute_error": functional.l1_loss,
    "huber": functional.smooth_l1_loss,
}
# By kind of target: those that fit, the usual one first.
FITTING = {
    "several": ("binary_cross_entropy", "focal", "asymmetric", "soft_f1"),
    "one": ("cross_entropy", "focal"),
    "ordinal": ("cross_entropy", "focal"),
    "number": ("squared_error", "absolute_error", "huber"),
}


def loss_name(task: Task, chosen: str | None, smoothing: float = 0) -> str:
    """Return the key of LOSSES to train with: the chosen one, or the one that leads to the best decision.

    The squared error is smallest at the mean, which RMSE asks for, the absolute error at the median, which MAE does.

    Args:
        chosen: `model.loss` of the config.
        smoothing: `model.smoothing` of the config.

    Raises:
        UserError: one of them does not fit the kind of target.
    """
    fitting = FITTING[task.kind]
    if smoothing and task.kind == "number":
        raise UserError(f"model.smoothing={smoothing:g} does not fit target.kind=number: set it to 0")
    if chosen is None:
        return "absolute_error" if task.metric.name == "mae" else fitting[0]
    if chosen not in fitting:
        raise UserError(f"model.loss={chosen} does not fit target.kind={task.kind}: choose {' or '.join(fitting)}")
    return "focal_exclusive" if chosen == "focal" and task.exclusive else chosen


def training_loss(logits: Tensor, targets: Tensor, name: str, double_sigmoid: bool = False) -> Tensor:
    """Return the mean loss of a batch, computed in 32 bits: in 16, probabilities near 0 and 1 cannot be told apart.

    PyTorch's loss functions apply the sigmoid or softmax themselves, which is accurate for large logits too. They take
    logits, not probabilities.

    `double_sigmoid` makes the mistake of passing probabilities on purpose, so that its cost can be measured; the
    original recipe made it (conf/recipe/original.yaml). The loss then takes the sigmoid of numbers from 0 to 1, which
    lies between 0.5 and 0.73. No probability can come near 0 or 1, so the loss stays high even where all labels are
    right.

    Args:
        logits: (n, labels) float; (n,) for numbers.
        targets: (n, labels) float, each from 0 to 1, for several labels; (n,) int64, or (n, labels) float shares, for
            one of them; else (n,) float.
        name: a key of LOSSES.
        double_sigmoid: apply the sigmoid before the loss as well.
    """
    logits = logits.float()
    return LOSSES[name](logits.sigmoid() if double_sigmoid else logits, targets)


def smoothed(targets: Tensor, smoothing: float, kind: str, labels: int) -> Tensor:
    """Move targets towards "unknown": 0.5 for each of several labels, equal shares where an image has one.

    Label smoothing (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7).

    Args:
        targets: as in `training_loss`.
        smoothing: how far, from 0 to 1.
        kind: of the target.
        labels: number of labels.
    """
    if not smoothing:
        return targets
    if kind == "several":
        return torch.lerp(targets, torch.full_like(targets, 0.5), smoothing)
    shares = as_shares(targets, labels)
    return torch.lerp(shares, torch.full_like(shares, 1 / labels), smoothing)


def as_shares(targets: Tensor, labels: int) -> Tensor:
    """Turn (n,) class numbers into (n, labels) shares of 0 and 1; return shares as they are."""
    return targets if targets.ndim == 2 else functional.one_hot(targets, labels).float()
