"""A version of the datastore as batches. What epoch e shows is a function of (seed, e), so a run can stop anywhere.

Training starts when the first shards are here; the others arrive behind it, in the order in which it needs them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.data.index import ARRAY, open_array
from plant_pathology.data.shards import Shards, shard_name
from plant_pathology.store.versions import Version
from plant_pathology.training.augmentation import WHOLE, Augment, Growth, augment_batch, augment_images


@dataclass(frozen=True)
class Batch:
    """Which samples, and the epoch they are drawn for; None shows them as they are."""

    samples: np.ndarray
    epoch: int | None


class ShuffledBatches(Sampler):
    """Every sample once an epoch in an order that only (seed, epoch) decides, but for an incomplete last batch.

    Shards come in random order, and samples are mixed within a window of shards: first of one, so that training starts
    when one is here, then of two, four and so on up to `window`. Shards are random samples themselves.

    Args:
        shards: (samples,) number of the shard in which each sample is.
    """

    def __init__(self, shards: np.ndarray, batch_size: int, window: int, seed: int):
        self.batch_size, self.window, self.seed = batch_size, window, seed
        self.epoch, self._resumed = 0, (0, 0)
        self._numbers, self._shard = np.unique(shards, return_inverse=True)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, also when a run continues."""
        self.epoch = epoch

    def resume(self, epoch: int, shown: int) -> None:
        """Leave out, in that epoch alone, the batches that a run had shown before it broke off."""
        self.epoch, self._resumed = epoch, (epoch, shown)

    def shard_order(self) -> np.ndarray:
        """The numbers of the shards in the order in which the epoch needs them."""
        return self._numbers[self._permutation()]

    def __iter__(self) -> Iterator[Batch]:
        sizes = np.minimum(2 ** np.arange(len(self._numbers)).clip(max=30), self.window)
        window_of_shard = np.searchsorted(np.cumsum(sizes), np.argsort(self._permutation()), side="right")
        mixed = np.random.default_rng([self.seed, self.epoch]).permutation(len(self._shard))
        order = mixed[np.argsort(window_of_shard[self._shard[mixed]], kind="stable")]
        shown = self._resumed[1] if self._resumed[0] == self.epoch else 0
        for start in range(shown * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield Batch(order[start : start + self.batch_size], self.epoch)

    def __len__(self) -> int:
        return len(self._shard) // self.batch_size

    def _permutation(self) -> np.ndarray:
        return np.random.default_rng([self.seed, self.epoch, 2]).permutation(len(self._numbers))


class OrderedBatches(Sampler):
    """Every sample once, in order."""

    def __init__(self, samples: int, batch_size: int):
        self.samples, self.batch_size = samples, batch_size

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            yield Batch(np.arange(start, min(start + self.batch_size, self.samples)), None)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)


class LabeledImages(Dataset):
    """Rows of the index with their pixels; indexed by a whole `Batch`.

    Args:
        index: all images, memory-mapped; `places`: which of them are samples here.
        image_size: side of the stored images, in pixels.
        on_cpu: augment here; otherwise the batch brings what to do on the device.
    """

    def __init__(
        self,
        index: np.ndarray,
        places: np.ndarray,
        shards: Shards,
        encoding: str,
        image_size: int,
        augment: Augment,
        growth: Growth,
        seed: int,
    ):
        self.index, self.places, self.shards, self.encoding = index, places, shards, encoding
        self.image_size, self.augment, self.growth, self.seed, self.on_cpu = image_size, augment, growth, seed, True
        self._drawn: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> np.ndarray:
        """A column of the index, a value a sample."""
        return self.index[name][self.places]

    def __getitem__(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.index[self.places[batch.samples]]
        names = [shard_name(number, self.encoding) for number in rows["shard"]]
        images = self.shards.pixels(names, rows["row"])
        item = {"targets": torch.from_numpy(rows["targets"].astype(np.float32))}
        if batch.epoch is not None:
            maps, light = (drawn[batch.samples] for drawn in self._draw(batch.epoch))
            side = self.growth.side(batch.epoch, self.image_size)
            if self.on_cpu:
                images = augment_images(images, maps, light, side)
            else:
                item |= {"maps": torch.from_numpy(maps), "light": torch.from_numpy(light), "side": side}
        return item | {"images": torch.from_numpy(np.stack(list(images)))}

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self.augment.draw(self.seed, epoch, len(self))
        return self._drawn[1]


class StoredData(pl.LightningDataModule):
    """Training and validation folds of one datastore version.

    Args:
        version: what `open_version` gave.
        fold: validates; the other folds train.
        window: shards that are mixed with each other.
        workers: processes that decode; 0 decodes where it trains.
        seed: of shuffling and augmentation.
        growth: of training images, epoch by epoch.
    """

    def __init__(
        self,
        version: Version,
        fold: int,
        batch_size: int,
        window: int,
        workers: int,
        augment: Augment,
        seed: int,
        growth: Growth = WHOLE,
    ):
        super().__init__()
        self.version, self.batch_size, self.window, self.workers, self.seed = version, batch_size, window, workers, seed
        self.manifest = read_json(version.open("manifest.json"), "push the prepared data again")
        index = open_array(version.open(ARRAY))
        if fold not in (folds := np.unique(index["fold"]).tolist()):
            raise UserError(f"data.fold={fold}: {version.ref} has the folds {', '.join(map(str, folds))}")
        held_out = index["fold"] == fold
        stored = self.manifest["encoding"], self.manifest["image_size"]
        self.training, self.validation = (
            LabeledImages(index, np.flatnonzero(rows), Shards(version.open), *stored, augment, growth, seed)
            for rows in (~held_out, held_out)
        )
        if len(self.training) < batch_size:
            raise UserError(f"data.batch_size={batch_size} is more than the {len(self.training)} training images")
        self._shuffled = ShuffledBatches(self.training.column("shard"), batch_size, window, seed)

    def begin(self, epoch: int, shown: int) -> None:
        """Fetch shards in the order in which training needs them, from here on.

        Args:
            shown: batches of the epoch that were shown before the run broke off.
        """
        self._shuffled.resume(epoch, shown % len(self._shuffled))
        self.version.prefetch(shard_name(number, self.manifest["encoding"]) for number in self._shuffled.shard_order())

    def setup(self, stage: str) -> None:
        # OpenCV's threads would only wait for those of torch.
        cv2.setNumThreads(0)
        self.training.on_cpu = self.trainer.strategy.root_device.type == "cpu"

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.training, self._shuffled)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation, OrderedBatches(len(self.validation), self.batch_size))

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """(n, side, side, 3) uint8 to (n, 3, side, side) in [0, 1], augmented where the batch brings draws."""
        images = batch["images"].permute(0, 3, 1, 2).float() / 255
        if "maps" in batch:
            images = augment_batch(images, batch["maps"], batch["light"], batch["side"])
        return batch | {"images": images}

    def _loader(self, dataset: LabeledImages, sampler: Sampler) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
