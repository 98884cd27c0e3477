"""Load batches from a version in the datastore.

Training starts as soon as the first shards are downloaded; the others are prefetched in the background, in the order in
which training needs them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from plant_pathology.core.disk import require_shared_memory
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.schema import ON_ALL
from plant_pathology.data.index import ARRAY, NO_FOLD, TEACHER, open_array, unpack_targets
from plant_pathology.data.shards import Shards, shard_name
from plant_pathology.store.version import Version
from plant_pathology.training.augmentation import Augment, augment_batch, augment_images
from plant_pathology.training.batches import Batch, OrderedBatches, ShuffledBatches
from plant_pathology.training.device import ONLY, Device
from plant_pathology.training.progressive_resizing import FULL_SIZE, ProgressiveResizing
from plant_pathology.training.transforms import Transforms

CHECKED = 64  # images that a run without a validation fold predicts, to check its packed network by


class LabeledImages(Dataset):
    """Read images and their targets from shards; `dataset[batch]` is a whole `Batch`.

    Items: `images`, (n, side, side, 3) uint8; `rows`, (n,) int64 positions in the data set, -1 for repeated samples;
    `targets`, (n,) int64 class numbers, (n,) float32 numbers, or (n, labels) float32 of 0 and 1; of training images
    also `teacher`, (n, outputs) float32, if there is one. Where `on_cpu` is false, training images are not augmented
    yet, and `maps`, `light` and `side` hold the arguments of `augment_batch`.

    Args:
        index: table of all images, memory-mapped.
        places: positions in the index of the images of this data set.
        shards: reads pixels.
        encoding: `prepare.encoding` of the shards.
        image_size: side of the stored images, in pixels.
        augment: limits of augmentation.
        resizing: sides of training images by epoch.
        seed: the run's seed, for augmentation.
        labels: number of labels; 0 for numbers.
        transforms: of training images, before augmentation.
        teacher: (images of the index, outputs) predictions of an ensemble, memory-mapped; None for none.
    """

    def __init__(
        self,
        index: np.ndarray,
        places: np.ndarray,
        shards: Shards,
        encoding: str,
        image_size: int,
        augment: Augment,
        resizing: ProgressiveResizing,
        seed: int,
        labels: int,
        transforms: Transforms,
        teacher: np.ndarray | None = None,
    ):
        self.labels, self.transforms, self.teacher = labels, transforms, teacher
        self.index, self.places, self.shards, self.encoding = index, places, shards, encoding
        self.image_size, self.augment, self.resizing, self.seed = image_size, augment, resizing, seed
        self.on_cpu = True  # StoredData.setup sets it to False where a GPU augments
        self._drawn: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> np.ndarray:
        """Return a column of the index, one value per sample."""
        return self.index[name][self.places]

    def __getitem__(self, batch: Batch) -> dict[str, Any]:
        rows = self.index[self.places[batch.samples]]
        names = [shard_name(number, self.encoding) for number in rows["shard"]]
        images = self.shards.pixels(names, rows["row"])
        targets = unpack_targets(rows["target"], self.labels)
        numbers = np.int64 if targets.dtype.kind == "i" else np.float32
        item: dict[str, Any] = {"targets": torch.from_numpy(targets.astype(numbers))}
        item["rows"] = torch.from_numpy(np.where(batch.repeated, -1, batch.samples))
        if batch.epoch is not None:
            maps, light = (drawn[batch.samples] for drawn in self._draw(batch.epoch))
            side = self.resizing.side(batch.epoch, self.image_size)
            if self.teacher is not None:
                item["teacher"] = torch.from_numpy(self.teacher[self.places[batch.samples]])
            if self.transforms.steps:
                images = self.transforms(images, batch.epoch, batch.samples.tolist())
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
    """Split one version of the datastore into training and validation folds.

    Args:
        version: from `open_version`.
        fold: the validation fold; the other folds train. One of ON_ALL: all train, and `validation` holds a few of
            them.
        batch_size: number of images per batch and device.
        window: largest number of shards whose images are shuffled together.
        workers: number of processes that decode; 0 decodes in the training process.
        augment: limits of augmentation.
        seed: seed of shuffling and augmentation.
        resizing: sides of training images by epoch.
        transforms: `data.transforms` of the config.
        device: that the images are for.
        distill: training images have the predictions of `prepare.teacher`, too.

    Raises:
        UserError: the version has no such fold or teacher or is of earlier code, or a batch is larger than the training
            folds.
    """

    def __init__(
        self,
        version: Version,
        fold: int | str,
        batch_size: int,
        window: int,
        workers: int,
        augment: Augment,
        seed: int,
        resizing: ProgressiveResizing = FULL_SIZE,
        transforms: Sequence[str | Mapping[str, Any]] = (),
        device: Device = ONLY,
        distill: bool = False,
    ):
        super().__init__()
        self.device = device
        self.version, self.batch_size, self.window, self.workers, self.seed = version, batch_size, window, workers, seed
        self.manifest = read_json(version.open("manifest.json"), "push the prepared data again")
        if self.manifest.get("kind") is None:
            raise UserError(f"{version.ref} was prepared by an earlier version of the code: prepare and push it again")
        index = open_array(version.open(ARRAY))
        if fold not in (*ON_ALL, *(folds := np.unique(index["fold"][index["fold"] != NO_FOLD]).tolist())):
            raise UserError(f"data.fold={fold}: {version.ref} has the folds {', '.join(map(str, folds))}")
        validated = np.unique(np.linspace(0, len(index) - 1, CHECKED).round().astype(int))
        trained = np.arange(len(index))
        if fold not in ON_ALL:
            trained, validated = (np.flatnonzero(rows) for rows in (index["fold"] != fold, index["fold"] == fold))
        stored, labels = (self.manifest["encoding"], self.manifest["image_size"]), len(self.manifest["labels"])
        before = Transforms(transforms, seed)
        teacher = self._teacher(trained) if distill else None
        self.training, self.validation = (
            LabeledImages(
                index, places, Shards(version.open), *stored, augment, resizing, seed, labels, before, teacher
            )
            for places in (trained, validated)
        )
        self._step = batch_size * device.count  # images of all devices
        if len(self.training) < self._step:
            times = f" x trainer.devices={device.count}" if device.count > 1 else ""
            raise UserError(
                f"data.batch_size={batch_size}{times} is more than the {len(self.training)} training images"
            )
        self._shuffled = ShuffledBatches(self.training.column("shard"), self._step, window, seed, device)

    def _teacher(self, trained: np.ndarray) -> np.ndarray:
        """Return the predictions of the teacher for all images, some of which must be for images that train."""
        if TEACHER not in self.version.files:
            raise UserError(
                f"model.distill: {self.version.ref} has no teacher to learn from: set prepare.teacher, prepare and push"
                " it again, or set model.distill=0"
            )
        teacher = np.load(self.version.open(TEACHER), mmap_mode="r", allow_pickle=False)
        if np.isnan(teacher[trained, 0]).all():
            raise UserError(
                f"model.distill: the teacher of {self.version.ref} predicted none of the images that train: train more"
                " folds of it (train.folds), or set model.distill=0"
            )
        return teacher

    def start_at(self, epoch: int, batches_done: int) -> None:
        """Start training at this epoch, and prefetch shards in the order in which it needs them.

        Args:
            epoch: counted from 0.
            batches_done: batches of the epoch that the run had trained on before it was interrupted.
        """
        self._shuffled.resume(epoch, batches_done % len(self._shuffled))
        self.version.prefetch(shard_name(number, self.manifest["encoding"]) for number in self._shuffled.shard_order())

    def setup(self, stage: str) -> None:
        # OpenCV's threads would compete with torch's for the same cores.
        cv2.setNumThreads(0)
        assert self.trainer is not None, "Lightning sets it before it calls this"
        self.training.on_cpu = self.trainer.strategy.root_device.type == "cpu"

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.training, self._shuffled)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation, OrderedBatches(len(self.validation), self._step, self.device))

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Turn (n, side, side, 3) uint8 into (n, 3, side, side) in [0, 1]; augment here what the CPU did not."""
        images = batch["images"].permute(0, 3, 1, 2).float().div_(255)  # in place: half the time
        if "maps" in batch:
            images = augment_batch(images, batch["maps"], batch["light"], batch["side"])
        return batch | {"images": images}

    def _loader(self, dataset: LabeledImages, sampler: Sampler) -> DataLoader:
        if self.workers:
            # Each process prepares two batches ahead, and one more is in use. No `timeout` is set: with one, torch only
            # looks after that time whether a process was killed, without one every five seconds.
            size = self._step * 3 * self.manifest["image_size"] ** 2 * (2 * self.workers + 1)
            require_shared_memory(size, f"data.workers={self.workers}")
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
