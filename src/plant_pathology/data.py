"""A version of the datastore as batches. What epoch e shows is a function of (seed, e), so a run can stop anywhere."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from plant_pathology.augment import Augment, draw
from plant_pathology.datastore import Version
from plant_pathology.index import ARRAY, open_array
from plant_pathology.shards import Shards, shard_name
from plant_pathology.stage import StageError, read_json


@dataclass(frozen=True)
class Batch:
    """Which samples, and the epoch they are drawn for; None shows them as they are."""

    samples: np.ndarray
    epoch: int | None


class ShuffledBatches(Sampler):
    """Every sample once an epoch in an order that only (seed, epoch) decides, but for an incomplete last batch."""

    def __init__(self, samples: int, batch_size: int, seed: int):
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, also when a run continues."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.samples)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield Batch(order[start : start + self.batch_size], self.epoch)

    def __len__(self) -> int:
        return self.samples // self.batch_size


class OrderedBatches(Sampler):
    """Every sample once, in order."""

    def __init__(self, samples: int, batch_size: int):
        self.samples, self.batch_size = samples, batch_size

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self.batch_size):
            yield Batch(np.arange(start, min(start + self.batch_size, self.samples)), None)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)


class LabelledImages(Dataset):
    """Rows of the index with their pixels; indexed by a whole `Batch`."""

    def __init__(self, index: np.ndarray, shards: Shards, encoding: str, seed: int):
        self.index, self.shards, self.encoding, self.seed = index, shards, encoding, seed
        self._epoch, self._draws = None, None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.index[batch.samples]
        names = [shard_name(number, self.encoding) for number in rows["shard"]]
        item = {
            "images": torch.from_numpy(np.stack(list(self.shards.pixels(names, rows["row"])))),
            "targets": torch.from_numpy(rows["targets"].astype(np.float32)),
        }
        if batch.epoch is not None:
            if batch.epoch != self._epoch:
                self._epoch, self._draws = batch.epoch, draw(self.seed, batch.epoch, len(self))
            item["draws"] = torch.from_numpy(self._draws[batch.samples])
        return item


class StoredData(pl.LightningDataModule):
    """Training and validation folds of one datastore version.

    Args:
        version: what `open_version` gave.
        fold: validates; the other folds train.
        seed: of shuffling and augmentation.
    """

    def __init__(self, version: Version, fold: int, batch_size: int, augment: Augment, seed: int):
        super().__init__()
        self.batch_size, self.augment, self.seed = batch_size, augment, seed
        self.manifest = read_json(version.open("manifest.json"), "push the prepared data again")
        index = open_array(version.open(ARRAY))
        if fold not in (folds := np.unique(index["fold"]).tolist()):
            raise StageError(f"data.fold={fold}: {version.ref} has the folds {', '.join(map(str, folds))}")
        shards, encoding = Shards(version.open), self.manifest["encoding"]
        held_out = index["fold"] == fold
        self.training = LabelledImages(index[~held_out], shards, encoding, seed)
        self.validation = LabelledImages(index[held_out], shards, encoding, seed)
        if len(self.training) < batch_size:
            raise StageError(f"data.batch_size={batch_size} is more than the {len(self.training)} training images")

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.training, ShuffledBatches(len(self.training), self.batch_size, self.seed))

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation, OrderedBatches(len(self.validation), self.batch_size))

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """(n, side, side, 3) uint8 to (n, 3, side, side) in [0, 1], augmented where the batch brings draws."""
        images = batch["images"].permute(0, 3, 1, 2).float() / 255
        return batch | {"images": self.augment(images, batch["draws"]) if "draws" in batch else images}

    def _loader(self, dataset: LabelledImages, sampler: Sampler) -> DataLoader:
        return DataLoader(dataset, batch_size=None, sampler=sampler, pin_memory=torch.cuda.is_available())
