"""Read the images that loader.py measures with two other loaders, LitData and WebDataset, as their pages advise.

Both read the same JPEGs that our shards hold, decode them as they do by default, and augment with the transforms that
loader.py uses for ImageFolder; without transforms they hand over pixels, as ours do for a device that augments.
They are in the extra `bench`, which `make bench` installs. Where they are missing, they are left out.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

SHUFFLED = 1000  # samples that are shuffled together
SHARD_BYTES = 4_000_000  # as prepare.shard_mb


def peers(jpegs: list[bytes], folder: Path, batch: int, augment: Callable[[Any], Any]) -> dict[str, Callable[[], int]]:
    """Write images in both formats; return functions that read one epoch, and how many images it had, by name.

    Args:
        jpegs: content of each image.
        folder: to write into.
        augment: what to do with an image on the CPU.
    """
    found: dict[str, Callable[[], int]] = {}
    for name, write in (("litdata", litdata), ("webdataset", webdataset)):
        if find_spec(name) is None:
            print(f"{name} is not installed: left out")
            continue
        read = write(jpegs, folder / name)
        found[f"{name}, CPU augments"] = partial(epoch, read, augment, batch)
        found[f"{name}, device augments"] = partial(epoch, read, pixels, batch)
    return found


def epoch(read: Callable[[Callable[[Any], Any]], Any], augment: Callable[[Any], Any], batch: int) -> int:
    """Load all images once in batches, in this process; return their number."""
    return sum(len(images) for images in DataLoader(read(augment), batch_size=batch, num_workers=0))


def pixels(image: Any) -> torch.Tensor:
    """Return an image as uint8 pixels."""
    return image if isinstance(image, torch.Tensor) else torch.from_numpy(np.array(image))


def numbered(jpeg: tuple[int, bytes]) -> dict[str, Any]:
    """Return a sample as LitData stores it."""
    number, content = jpeg
    return {"number": number, "image": Image.open(BytesIO(content))}  # stored as it is, because it is a JPEG


def litdata(jpegs: list[bytes], folder: Path) -> Callable[[Callable[[Any], Any]], Any]:
    """Write LitData's chunks."""
    module = import_module("litdata")
    module.optimize(
        numbered, list(enumerate(jpegs)), str(folder), num_workers=1, chunk_bytes=SHARD_BYTES, keep_data_ordered=True
    )

    def read(augment: Callable[[Any], Any]) -> Any:
        def transform(sample: dict[str, Any]) -> Any:
            return augment(sample["image"])

        return module.StreamingDataset(str(folder), shuffle=True, transform=transform)

    return read


def webdataset(jpegs: list[bytes], folder: Path) -> Callable[[Callable[[Any], Any]], Any]:
    """Write WebDataset's tar files."""
    module = import_module("webdataset")
    folder.mkdir()
    with module.ShardWriter(str(folder / "%06d.tar"), maxsize=SHARD_BYTES, verbose=0) as shards:
        for number, content in enumerate(jpegs):
            shards.write({"__key__": f"{number:06d}", "jpg": content})
    names = sorted(map(str, folder.glob("*.tar")))

    def read(augment: Callable[[Any], Any]) -> Iterator[Any]:
        data = module.WebDataset(names, shardshuffle=len(names)).shuffle(SHUFFLED)
        return data.decode("pil").to_tuple("jpg").map_tuple(augment).map(lambda sample: sample[0])

    return read
