"""Turn a network's logits into outputs: probabilities of labels, or numbers in the target's own unit."""

from collections.abc import Mapping

from torch import Tensor

SEVERAL, NUMBER = "several", "number"  # kinds of target; the others are `one` and `ordinal`


def outputs(logits: Tensor, kind: str, scale: Mapping[str, float] | None) -> Tensor:
    """Return (n, labels) probabilities, float32, or (n, 1) numbers.

    Args:
        logits: (n, labels), or (n, 1) for a number.
        kind: of the target. several: each label has a probability of its own; one, ordinal: they sum to 1.
        scale: mean and std of the numbers that the network was trained on, which it predicts as (number - mean) / std.
    """
    logits = logits.float()
    if kind == NUMBER:
        assert scale is not None, "prepare writes it for numbers"
        return logits * scale["std"] + scale["mean"]
    return logits.sigmoid() if kind == SEVERAL else logits.softmax(dim=1)
