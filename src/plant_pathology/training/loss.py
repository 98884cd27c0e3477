"""Compute the training loss from logits: the one that fits the target and the metric, or the one that is named."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from plant_pathology.competition.task import Task
from plant_pathology.core.errors import UserError

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    "cross_entropy": functional.cross_entropy,
    "squared_error": functional.mse_loss,
    "absolute_error": functional.l1_loss,
    "huber": functional.smooth_l1_loss,
}
# By kind of target: those that fit, the usual one first.
FITTING = {
    "several": ("binary_cross_entropy",),
    "one": ("cross_entropy",),
    "ordinal": ("cross_entropy",),
    "number": ("squared_error", "absolute_error", "huber"),
}


def loss_name(task: Task, chosen: str | None) -> str:
    """Return the loss to train with: the chosen one, or the one that leads to the best decision for the metric.

    The squared error is smallest at the mean, which RMSE asks for, the absolute error at the median, which MAE does.

    Args:
        chosen: `model.loss` of the config.

    Raises:
        UserError: it does not fit the kind of target.
    """
    fitting = FITTING[task.kind]
    if chosen is None:
        return "absolute_error" if task.metric.name == "mae" else fitting[0]
    if chosen not in fitting:
        raise UserError(f"model.loss={chosen} does not fit target.kind={task.kind}: choose {' or '.join(fitting)}")
    return chosen


def training_loss(logits: Tensor, targets: Tensor, name: str, double_sigmoid: bool = False) -> Tensor:
    """Return the mean loss of a batch.

    PyTorch's loss functions apply the sigmoid or softmax themselves, which is accurate for large logits too. They take
    logits, not probabilities.

    `double_sigmoid` makes the mistake of passing probabilities on purpose, so that its cost can be measured; the
    original recipe made it (conf/recipe/original.yaml). The loss then takes the sigmoid of numbers from 0 to 1, which
    lies between 0.5 and 0.73. No probability can come near 0 or 1, so the loss stays high even where all labels are
    right.

    Args:
        logits: (n, labels) float; (n,) for numbers.
        targets: (n, labels) float of 0 and 1 for binary_cross_entropy, (n,) int64 for cross_entropy, else (n,) float.
        name: a key of LOSSES.
        double_sigmoid: apply the sigmoid before the loss as well.
    """
    return LOSSES[name](logits.sigmoid() if double_sigmoid else logits, targets)
