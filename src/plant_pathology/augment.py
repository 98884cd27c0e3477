"""Augmentation of a whole batch by one affine map an image, on whatever device trains."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augment:
    """How far images may be changed; `data.augment` in conf/config.yaml."""

    flip: bool
    rotate: float
    scale: tuple[float, float]
    brightness: float

    DRAWS = 8

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Crop, turn, mirror and relight.

        Args:
            images: (n, 3, side, side) in [0, 1].
            draws: (n, DRAWS) uniform in [0, 1): all the randomness there is, so equal draws give equal images.
        """
        signed = 2 * draws - 1
        angle = torch.deg2rad(self.rotate * signed[:, 0])
        low, high = self.scale
        scale = low + (high - low) * draws[:, 1]
        # The crop's centre moves as far as the crop stays inside the image, were it not turned.
        shift = signed[:, 2:4] * (1 - scale)[:, None]
        mirror = torch.where(draws[:, 4:6] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(draws[:, 4:6])
        cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
        across, down = mirror.T
        maps = torch.stack([cos * across, -sin * down, shift[:, 0], sin * across, cos * down, shift[:, 1]], dim=1)
        grid = functional.affine_grid(maps.view(-1, 2, 3), list(images.shape), align_corners=False)
        moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        contrast, light = (1 + self.brightness * signed[:, 6:8]).T[..., None, None, None]
        mean = moved.mean(dim=(1, 2, 3), keepdim=True)
        return (((moved - mean) * contrast + mean) * light).clamp(0, 1)


def draw(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The draws of every sample in an epoch, (samples, DRAWS) float32: a function of its arguments alone."""
    return np.random.default_rng([seed, epoch, 1]).random((samples, Augment.DRAWS), dtype=np.float32)
