"""Augmentation by one affine map and one change of light an image: on the CPU image by image, on a device by batch.

The map also gives the image its size: early epochs may be shown smaller ones.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augment:
    """How far images may be changed; `data.augment` in conf/params.yaml.

    Args:
        flip: mirrored or not, both ways.
        rotate: degrees, up to, either way.
        crop: smallest side of the crop, as a share of the image's; the largest is 1.
        brightness: factor within 1 +- this; contrast likewise.
    """

    flip: bool
    rotate: float
    crop: float
    brightness: float

    DRAWS = 8

    def draw(self, seed: int, epoch: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """What is done to each sample in an epoch: a function of the arguments alone.

        Returns:
            (samples, 2, 3) float32 maps from a place in the result to one in the image, both -1 to 1 from edge to edge;
            (samples, 2) float32 contrast and brightness factors.
        """
        uniform = np.random.default_rng([seed, epoch, 1]).random((samples, self.DRAWS), dtype=np.float32)
        signed = 2 * uniform - 1
        angle = np.deg2rad(self.rotate * signed[:, 0])
        scale = self.crop + (1 - self.crop) * uniform[:, 1]
        # The crop's centre moves as far as the crop stays inside the image, were it not turned.
        shift = signed[:, 2:4] * (1 - scale)[:, None]
        across, down = np.where(uniform[:, 4:6] < 0.5, -1.0, 1.0).T if self.flip else np.ones((2, samples))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        maps = np.stack([cos * across, -sin * down, shift[:, 0], sin * across, cos * down, shift[:, 1]], axis=1)
        return maps.reshape(-1, 2, 3).astype(np.float32), 1 + self.brightness * signed[:, 6:8]


@dataclass(frozen=True)
class Growth:
    """Training images that begin small and grow to their whole side in equal steps: most of what they teach, at a
    fraction of the cost (Howard 2018 for DAWNBench; Tan and Le 2021, EfficientNetV2); `data.grow` in conf/params.yaml.

    Args:
        start: side of the first epoch, as a share of the whole; 1 for whole images throughout.
        until: share of the epochs after which images are whole.
        epochs: of the run.
    """

    start: float
    until: float
    epochs: int

    STEP = 16  # pixels

    def side(self, epoch: int, whole: int) -> int:
        """Pixels of an epoch's images."""
        grown = epoch / (self.until * self.epochs) if self.until else 1.0
        share = self.start + (1 - self.start) * min(1.0, grown)
        return whole if share == 1 else min(whole, max(self.STEP, round(share * whole / self.STEP) * self.STEP))


WHOLE = Growth(start=1.0, until=0.0, epochs=1)


def augment_images(
    images: Iterable[np.ndarray], maps: np.ndarray, light: np.ndarray, side: int
) -> Iterator[np.ndarray]:
    """Augment image by image, in uint8, as a CPU does it fastest.

    Args:
        images: n times (whole, whole, 3) uint8.
        maps: (n, 2, 3), and light: (n, 2), as `Augment.draw` gives them.
        side: of the results, in pixels.

    Returns:
        n times (side, side, 3) uint8.
    """
    steps = np.arange(256, dtype=np.float32)
    for pixels, affine, (contrast, brightness) in zip(images, maps.astype(np.float64), light, strict=True):
        whole = len(pixels)
        # Pixel centres lie at (i + 0.5) / side of the way from -1 to 1.
        affine[:, :2] *= whole / side
        affine[:, 2] = (affine[:, 2] * whole + whole - 1 - (side - 1) * affine[:, :2].sum(axis=1)) / 2
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
    """Augment a batch on the device where it is.

    Args:
        images: (n, 3, whole, whole) in [0, 1].
        maps: (n, 2, 3), and light: (n, 2), as `Augment.draw` gives them.
        side: of the results, in pixels.

    Returns:
        (n, 3, side, side) in [0, 1].
    """
    grid = functional.affine_grid(maps, [*images.shape[:2], side, side], align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness = light.T[..., None, None, None]
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    return (((moved - mean) * contrast + mean) * brightness).clamp(0, 1)
