"""Draw batches in an order that depends on (seed, epoch) alone.

Therefore a run can stop after any batch and continue with the next one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from plant_pathology.training.device import ONLY, Device


@dataclass(frozen=True)
class Batch:
    """Name the samples of a batch, and how they are to be read.

    Args:
        samples: positions in the data set.
        epoch: whose augmentation they get; None for no augmentation.
        repeated: whether another device has the same samples: all devices need as many batches.
    """

    samples: np.ndarray
    epoch: int | None
    repeated: bool = False


class ShuffledBatches(Sampler):
    """Shuffle every epoch in an order that (seed, epoch) alone decide; an incomplete last batch is dropped.

    Shards come in random order, and samples are shuffled within a window of shards. The first window is one shard, so
    that training starts when that is downloaded; the next ones are two, four and so on up to `window` shards. That is
    nearly a full shuffle, because each shard is itself a random sample of the images.

    Args:
        shards: (samples,) number of the shard that holds each sample.
        batch_size: number of samples per batch, of all devices together.
        window: largest number of shards whose samples are shuffled together.
        seed: the run's seed.
        device: which part of each batch is wanted.
    """

    def __init__(self, shards: np.ndarray, batch_size: int, window: int, seed: int, device: Device = ONLY):
        self.batch_size, self.window, self.seed, self.device = batch_size, window, seed, device
        self.epoch, self._resumed = 0, (0, 0)
        self._numbers, self._shard = np.unique(shards, return_inverse=True)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch to iterate over; Lightning calls this before each epoch, also when a run continues."""
        self.epoch = epoch

    def resume(self, epoch: int, batches_done: int) -> None:
        """Skip the first `batches_done` batches, in that epoch alone."""
        self.epoch, self._resumed = epoch, (epoch, batches_done)

    def shard_order(self) -> np.ndarray:
        """Return the shards' numbers in the order in which the epoch needs them."""
        return self._numbers[self._permutation()]

    def __iter__(self) -> Iterator[Batch]:
        sizes = np.minimum(2 ** np.arange(len(self._numbers)).clip(max=30), self.window)
        window_of_shard = np.searchsorted(np.cumsum(sizes), np.argsort(self._permutation()), side="right")
        shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(len(self._shard))
        order = shuffled[np.argsort(window_of_shard[self._shard[shuffled]], kind="stable")]
        batches_done = self._resumed[1] if self._resumed[0] == self.epoch else 0
        for start in range(batches_done * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield Batch(self.device.part(order[start : start + self.batch_size]), self.epoch)

    def __len__(self) -> int:
        return len(self._shard) // self.batch_size

    def _permutation(self) -> np.ndarray:
        return np.random.default_rng([self.seed, self.epoch, 2]).permutation(len(self._numbers))


class OrderedBatches(Sampler):
    """Iterate over all samples once, in order; the last batch may be smaller.

    Where it has fewer samples than there are devices, some of these repeat its last one.

    Args:
        samples: number of samples.
        batch_size: number of samples per batch, of all devices together.
        device: which part of each batch is wanted.
    """

    def __init__(self, samples: int, batch_size: int, device: Device = ONLY):
        self.samples, self.batch_size, self.device = samples, batch_size, device

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            batch = np.arange(start, min(start + self.batch_size, self.samples))
            own = self.device.part(batch)
            yield Batch(own if len(own) else batch[-1:], None, repeated=not len(own))

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)
