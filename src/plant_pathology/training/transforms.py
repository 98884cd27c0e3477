"""Change training images by transforms of torchvision that the config names, such as RandAugment.

They change one image after the other, on the CPU, before the affine map and the change of light of augmentation.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2

from plant_pathology.core.errors import UserError

BATCHES = ("CutMix", "MixUp")  # of whole batches


class Transforms:
    """Apply transforms one after the other; the size of an image must stay as it is.

    Args:
        listed: `data.transforms`: names of torchvision.transforms.v2, or each a name with its arguments.
        seed: the run's seed.

    Raises:
        UserError: torchvision has no such transform, or it does not take these arguments.
    """

    def __init__(self, listed: Sequence[str | Mapping[str, Mapping[str, Any] | None]], seed: int):
        self.seed = seed
        self.steps = [step for each in listed for step in _steps(each)]

    def __call__(self, images: Iterable[np.ndarray], epoch: int, samples: Sequence[int]) -> Iterator[np.ndarray]:
        """Transform images by random numbers that depend on the seed, the epoch and the sample alone.

        Args:
            images: arrays (side, side, 3) uint8.
            samples: number of each image.

        Raises:
            UserError: a transform gives something else than an image of the same shape.
        """
        for pixels, sample in zip(images, samples, strict=True):
            image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
            with torch.random.fork_rng(devices=[]):
                # Two numbers for one seed, as numpy mixes them.
                torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch, int(sample)]).generate_state(1)[0]))
                for step in self.steps:
                    image = _changed(step, image)
            yield np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _steps(listed: str | Mapping[str, Mapping[str, Any] | None]) -> Iterator[v2.Transform]:
    """Yield the transforms of an entry of `data.transforms`."""
    for name, arguments in listed.items() if isinstance(listed, Mapping) else [(listed, None)]:
        kind = getattr(v2, str(name), None)
        if not isinstance(kind, type) or not issubclass(kind, v2.Transform):
            raise UserError(f"data.transforms: torchvision.transforms.v2 has no {name}")
        if name in BATCHES:
            raise UserError(f"data.transforms: {name} mixes whole batches: set data.mix.{name.lower()}")
        try:
            yield kind(**(arguments or {}))
        except (TypeError, ValueError) as error:
            raise UserError(f"data.transforms: {name}: {error}") from None


def _changed(step: v2.Transform, image: torch.Tensor) -> torch.Tensor:
    name = type(step).__name__
    try:
        changed = step(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"data.transforms: {name}: {' '.join(str(error).split())}") from None
    if not isinstance(changed, torch.Tensor):
        raise UserError(
            f"data.transforms: {name} makes {type(changed).__name__} of an image: choose one that makes an image"
        )
    if changed.shape != image.shape or changed.dtype != image.dtype:
        shape = f"{tuple(changed.shape)} {changed.dtype}"
        raise UserError(f"data.transforms: {name} makes {shape} of {tuple(image.shape)} {image.dtype}")
    return changed
