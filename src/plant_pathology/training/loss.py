"""Compute the training loss from logits: binary cross-entropy for several labels per image, else cross-entropy."""

from torch import Tensor
from torch.nn import functional


def classification_loss(logits: Tensor, targets: Tensor, multilabel: bool, double_sigmoid: bool = False) -> Tensor:
    """Return the mean loss of a batch.

    PyTorch's loss functions apply the sigmoid or softmax themselves, which is accurate for large logits too. They take
    logits, not probabilities.

    `double_sigmoid` makes the mistake of passing probabilities on purpose, so that its cost can be measured; the
    original recipe made it (conf/recipe/original.yaml). The loss then takes the sigmoid of numbers from 0 to 1, which
    lies between 0.5 and 0.73. No probability can come near 0 or 1, so the loss stays high even where all labels are
    right.

    Args:
        logits: (n, labels) float.
        targets: (n, labels) float, 0 or 1.
        multilabel: True for labels that are independent of each other (one sigmoid per label); False where each image
            has exactly one label (one softmax over all labels).
        double_sigmoid: apply the sigmoid before the loss as well.
    """
    if double_sigmoid:
        logits = logits.sigmoid()
    if multilabel:
        return functional.binary_cross_entropy_with_logits(logits, targets)
    return functional.cross_entropy(logits, targets)
