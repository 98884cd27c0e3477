"""Mix the images of a batch with each other: MixUp and CutMix of torchvision, for every kind of target.

The targets are mixed as the images are. With several labels, each label's target is the share of the picture that has
it; with one label, targets become shares of labels; numbers are averaged. So the loss of a mixed image is the mean of
the losses that its two pictures would have with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0  # of the beta distribution of shares: Zhang et al. 2018; Yun et al. 2019


@dataclass(frozen=True)
class Mixing:
    """Shares of the batches that are mixed; `data.mix` in conf/params.yaml.

    Args:
        mixup: share of the batches whose images are averaged in pairs.
        cutmix: share of the batches whose images get a rectangle of another one.
    """

    mixup: float
    cutmix: float

    def __call__(self, images: Tensor, targets: Tensor, labels: int) -> tuple[Tensor, Tensor]:
        """Mix a batch, or leave it as it is, by torch's random generator.

        Args:
            images: (n, 3, side, side).
            targets: (n, labels) float, (n,) int64 class numbers, or (n,) float numbers.
            labels: number of labels.

        Returns:
            images, and targets: (n, labels) float, or (n,) float for numbers.
        """
        if not self.mixup and not self.cutmix:
            return images, targets
        drawn = float(torch.rand(()))
        if drawn >= self.mixup + self.cutmix:
            return images, targets
        mix = v2.MixUp if drawn < self.mixup else v2.CutMix
        classes = None if targets.is_floating_point() else labels
        mix = mix(alpha=MIXUP_ALPHA if drawn < self.mixup else CUTMIX_ALPHA, num_classes=classes)
        if targets.ndim == 1 and targets.is_floating_point():
            images, mixed = mix(images, targets[:, None])
            return images, mixed[:, 0]
        return mix(images, targets)
