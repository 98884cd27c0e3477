"""Measure the images per second that one core loads and augments to 224 px, compared with common alternatives.

    python benchmarks/loader.py

The alternatives are torchvision's ImageFolder with v2 transforms on 512 px JPEGs and on 4000 x 2672 px originals, as
the first kernels of the competition used it, and LitData and WebDataset on the JPEGs of 224 px that our JPEG shards
hold: with the same transforms, with rotation and changes of light as well, as ours, and with none. Our loader reads
data versions of the same images at 224 px, in both encodings, and augments as training does: on the CPU, or later on
the device. One process on one core. All candidates take turns in several rounds; the median counts.
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import litdata
import pandas as pd
import psutil
import torch
import webdataset
from hydra import compose, initialize_config_dir
from litdata.streaming.writer import BinaryWriter
from PIL import Image
from torch.utils.data import default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from plant_pathology.competition.sample import draw
from plant_pathology.core.checkout import checkout
from plant_pathology.data.shards import shard_name
from plant_pathology.datastore import open_version
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.data import StoredData

SIDE, BATCH, ROUNDS = 224, 32, 5
IMAGES, ORIGINALS = 256, 16
CROP_AND_FLIP = [
    v2.RandomResizedCrop(SIDE, scale=(0.5, 1.0), antialias=True),
    v2.RandomHorizontalFlip(),
    v2.RandomVerticalFlip(),
]
ROTATE_AND_LIGHT = [v2.RandomRotation(20, v2.InterpolationMode.BILINEAR), v2.ColorJitter(brightness=0.2, contrast=0.2)]
TO_FLOAT = v2.ToDtype(torch.float32, scale=True)
TRANSFORMS = v2.Compose([v2.ToImage(), *CROP_AND_FLIP, TO_FLOAT])
# What a peer does with an image, by what the benchmark calls it.
PEERS = {
    "CPU crops and flips": TRANSFORMS,
    "CPU augments": v2.Compose([v2.ToImage(), *ROTATE_AND_LIGHT, *CROP_AND_FLIP, TO_FLOAT]),
    "decoding alone": v2.ToImage(),
}


def config(root: Path, *overrides: str):
    with initialize_config_dir(str(checkout() / "conf"), version_base="1.3"):
        return compose("config", ["competition=sample", "machine=gpu", f"paths.root={root}", *overrides])


def enlarged(raw: Path, folder: Path, size: tuple[int, int], count: int) -> Path:
    """Write the first images at another size as an ImageFolder with one class."""
    (folder / "leaf").mkdir(parents=True)
    for path in sorted((raw / "train_images").iterdir())[:count]:
        image = Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        image.save(folder / "leaf" / path.name, "JPEG", quality=90)
    return folder


def stored(root: Path, drawn: Path, folder: Path, encoding: str) -> StoredData:
    """Prepare and push the images of an ImageFolder with the real commands, and return the version as training data.

    Args:
        drawn: a competition, whose test images and form are taken as they are.
    """
    raw = root / "data/raw/sample"
    raw.mkdir(parents=True)
    for name in ("test_images", "sample_submission.csv"):
        (raw / name).symlink_to(drawn / name)
    (raw / "train_images").symlink_to(folder / "leaf")
    names = sorted(path.name for path in (folder / "leaf").iterdir())
    labels = ["scab", "rust", "healthy", "complex"]
    rows = {"image": names, "labels": [labels[i % 4] for i in range(len(names))]}
    pd.DataFrame(rows).to_csv(raw / "train.csv", index=False)
    overrides = [f"prepare.image_size={SIDE}", f"prepare.encoding={encoding}"]
    for verb in (["prepare"], ["datastore", "push"]):
        command = [sys.executable, "-m", f"plant_pathology.{verb[0]}", *verb[1:], "competition=sample", "machine=gpu"]
        subprocess.run([*command, f"paths.root={root}", *overrides], check=True, stdout=subprocess.DEVNULL)
    augment = Augment(flip=True, rotate=20, crop=0.7, brightness=0.2)
    return StoredData(open_version(config(root)), 0, BATCH, window=16, workers=0, augment=augment, seed=0)


def of_folder(dataset: ImageFolder) -> Callable[[], int]:
    def epoch() -> int:
        for start in range(0, len(dataset), BATCH):
            torch.stack([dataset[i][0] for i in range(start, min(start + BATCH, len(dataset)))])
        return len(dataset)

    return epoch


def jpegs_of(data: StoredData) -> list[bytes]:
    """Return the training images as our JPEG shards hold them."""
    places = zip(data.training.column("shard"), data.training.column("row"), strict=True)
    return [data.training.shards.bytes(shard_name(shard, "jpeg"), row) for shard, row in places]


def litdata_epoch(jpegs: list[bytes], folder: Path, transform: v2.Transform) -> Callable[[], int]:
    """Write JPEGs as LitData's chunks, and return an epoch of its loader; Pillow decodes, as in ImageFolder."""
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for i, jpeg in enumerate(jpegs):
        writer[i] = {"image": jpeg, "label": i % 4}
    writer.done()
    writer.merge()

    def to_batch(items: list[dict]) -> list:
        return default_collate([(transform(decoded(item["image"])), item["label"]) for item in items])

    data = litdata.StreamingDataset(str(folder), shuffle=True)
    return count_images(litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=0, collate_fn=to_batch))


def webdataset_epoch(jpegs: list[bytes], folder: Path, transform: v2.Transform) -> Callable[[], int]:
    """Write JPEGs as a WebDataset, and return an epoch of its loader; Pillow decodes here, too."""
    folder.mkdir()
    with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=128, verbose=0) as writer:
        for i, jpeg in enumerate(jpegs):
            writer.write({"__key__": f"{i:06}", "jpg": jpeg, "cls": i % 4})
    urls = sorted(map(str, folder.glob("*.tar")))
    data = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(BATCH * 4).to_tuple("jpg", "cls")
    data = data.map_tuple(lambda jpeg: transform(decoded(jpeg)), int)
    return count_images(webdataset.WebLoader(data.batched(BATCH), batch_size=None, num_workers=0))


def decoded(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def count_images(loader) -> Callable[[], int]:
    return lambda: sum(len(images) for images, _ in loader)


def of_store(data: StoredData, on_cpu: bool) -> Callable[[], int]:
    def epoch() -> int:
        data.training.on_cpu = on_cpu
        seen = 0
        for batch in data.train_dataloader():
            if on_cpu:
                batch = data.on_after_batch_transfer(batch, 0)
            seen += len(batch["images"])
        return seen

    return epoch


def memory_growth(data: StoredData, workers: int, epochs: int = 20) -> float:
    """Return the memory after all epochs, relative to half of them; unshared memory of this process and its workers."""
    data.workers = workers
    loader = data.train_dataloader()
    used = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            pass
        process = psutil.Process()
        used.append(sum(each.memory_full_info().uss for each in (process, *process.children())))
    return used[-1] / used[epochs // 2]


def measure() -> dict[str, float]:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        draw(root / "drawn", seed=0, train=IMAGES, test=1)
        medium = enlarged(root / "drawn", root / "medium", (512, 512), IMAGES)
        large = enlarged(root / "drawn", root / "large", (4000, 2672), ORIGINALS)
        loaders = {
            "originals, ImageFolder": of_folder(ImageFolder(large, TRANSFORMS)),
            "512 px JPEGs, ImageFolder": of_folder(ImageFolder(medium, TRANSFORMS)),
        }
        for encoding in ("jpeg", "raw"):
            data = stored(root / encoding, root / "drawn", medium, encoding)
            loaders[f"{encoding} shards, CPU augments"] = of_store(data, on_cpu=True)
            loaders[f"{encoding} shards, device augments"] = of_store(data, on_cpu=False)
            if encoding == "jpeg":
                shared = jpegs_of(data)
        for name, epoch_of in {"LitData": litdata_epoch, "WebDataset": webdataset_epoch}.items():
            for done, transform in PEERS.items():
                loaders[f"{name}, {done}"] = epoch_of(shared, root / f"{name}, {done}", transform)
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for _ in range(ROUNDS):
            for name, epoch in loaders.items():
                started = perf_counter()
                rates[name].append(epoch() / (perf_counter() - started))
        speed = {name: median(values) for name, values in rates.items()}
        growth = {workers: memory_growth(data, workers) for workers in (0, 2)}
    for name, value in speed.items():
        print(f"{value:10.0f} images/s  {name}")
    original, folder, *_ = speed.values()
    ours = {(kind, by): speed[f"{kind} shards, {by} augments"] for kind in ("jpeg", "raw") for by in ("CPU", "device")}
    return {
        "cpu_augment_vs_originals": ours["raw", "CPU"] / original,
        "cpu_augment_vs_imagefolder": ours["raw", "CPU"] / folder,
        "cpu_augment_jpeg_vs_imagefolder": ours["jpeg", "CPU"] / folder,
        "cpu_augment_jpeg_vs_litdata": ours["jpeg", "CPU"] / speed["LitData, CPU augments"],
        "cpu_augment_jpeg_vs_webdataset": ours["jpeg", "CPU"] / speed["WebDataset, CPU augments"],
        "cpu_augment_jpeg_vs_litdata_without_rotation": ours["jpeg", "CPU"] / speed["LitData, CPU crops and flips"],
        "device_augment_vs_imagefolder": ours["raw", "device"] / folder,
        "device_augment_jpeg_vs_imagefolder": ours["jpeg", "device"] / folder,
        "device_augment_jpeg_vs_litdata": ours["jpeg", "device"] / speed["LitData, decoding alone"],
        "device_augment_jpeg_vs_webdataset": ours["jpeg", "device"] / speed["WebDataset, decoding alone"],
        "memory_growth_over_10_epochs": growth[0],
        "memory_growth_over_10_epochs_2_workers": growth[2],
    }


if __name__ == "__main__":
    for name, ratio in measure().items():
        print(f"{ratio:10.2f}  {name}")
