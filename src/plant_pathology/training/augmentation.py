"""Augment training images: one random affine map and one random change of light per image and epoch.

On a CPU each image is augmented on its own (`augment_images`); a GPU augments whole batches (`augment_batch`). Both
give the same images up to rounding. The map also resizes: progressive_resizing.py chooses the side.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augment:
    """Limits of the random changes; `data.augment` in conf/params.yaml.

    Args:
        flip: flip at random, horizontally and vertically.
        rotate: largest rotation in degrees, in either direction.
        crop: smallest side of the random crop, as a share of the image's side; the largest is 1.
        brightness: brightness is multiplied by a factor within 1 +- this; contrast likewise.
    """

    flip: bool
    rotate: float
    crop: float
    brightness: float

    DRAWS: ClassVar[int] = 8  # random numbers per image

    def draw(self, seed: int, epoch: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the changes of every sample for one epoch.

        They depend on the arguments alone, so that a run that continues in the middle of an epoch sees the same images.

        Returns:
            maps, (samples, 2, 3) float32: affine maps from a point of the result to a point of the image, as x and y
            from -1 to 1, edge to edge; light, (samples, 2) float32: factors of contrast and brightness.
        """
        uniform = np.random.default_rng([seed, epoch, 1]).random((samples, self.DRAWS), dtype=np.float32)
        signed = 2 * uniform - 1
        angle = np.deg2rad(self.rotate * signed[:, 0])
        scale = self.crop + (1 - self.crop) * uniform[:, 1]
        # The crop stays inside the image before it is rotated; what rotation brings in from outside is reflected.
        shift = signed[:, 2:4] * (1 - scale)[:, None]
        across, down = np.where(uniform[:, 4:6] < 0.5, -1.0, 1.0).T if self.flip else np.ones((2, samples))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        maps = np.stack([cos * across, -sin * down, shift[:, 0], sin * across, cos * down, shift[:, 1]], axis=1)
        return maps.reshape(-1, 2, 3).astype(np.float32), 1 + self.brightness * signed[:, 6:8]


def augment_images(
    images: Iterable[np.ndarray], maps: np.ndarray, light: np.ndarray, side: int
) -> Iterator[np.ndarray]:
    """Augment images one by one, in uint8, which is fastest on a CPU.

    Args:
        images: n arrays (full, full, 3) uint8.
        maps: (n, 2, 3), from `Augment.draw`.
        light: (n, 2), from `Augment.draw`.
        side: side of the results, in pixels.

    Yields:
        n arrays (side, side, 3) uint8.
    """
    steps = np.arange(256, dtype=np.float32)
    for pixels, affine, (contrast, brightness) in zip(images, maps.astype(np.float64), light, strict=True):
        full = len(pixels)
        # Convert from -1 … 1 to OpenCV's pixel indices: the center of pixel i is at (2 i + 1) / side - 1.
        affine[:, :2] *= full / side
        affine[:, 2] = (affine[:, 2] * full + full - 1 - (side - 1) * affine[:, :2].sum(axis=1)) / 2
        moved = cv2.warpAffine(
            pixels,
            affine,
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        mean = sum(cv2.mean(moved)) / 3
        values = (steps - mean) * (contrast * brightness) + (mean * brightness + 0.5)
        yield cv2.LUT(moved, np.clip(values, 0, 255).astype(np.uint8))


def augment_batch(images: Tensor, maps: Tensor, light: Tensor, side: int) -> Tensor:
    """Augment a batch on its device.

    Args:
        images: (n, 3, full, full) in [0, 1].
        maps: (n, 2, 3), from `Augment.draw`.
        light: (n, 2), from `Augment.draw`.
        side: side of the results, in pixels.

    Returns:
        (n, 3, side, side) in [0, 1].
    """
    grid = functional.affine_grid(maps, [*images.shape[:2], side, side], align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness = light.T[..., None, None, None]
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    return (((moved - mean) * contrast + mean) * brightness).clamp(0, 1)
