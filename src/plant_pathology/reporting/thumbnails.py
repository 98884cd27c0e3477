"""Make thumbnails from a data version, as data URIs for the page."""

import base64
from collections.abc import Iterable

import cv2
import numpy as np

from plant_pathology.data.index import ARRAY, open_array
from plant_pathology.data.shards import Shards, shard_name
from plant_pathology.store.version import Version

MAX_SIDE = 160  # pixels
QUALITY = 85  # of JPEG


def thumbnails(version: Version, encoding: str, names: Iterable[str]) -> dict[str, str]:
    """Return JPEGs of the named images as data URIs by name, without those that the version lacks.

    Args:
        encoding: of the version's shards.
    """
    index = open_array(version.open(ARRAY))
    wanted = np.array(sorted(name.encode() for name in set(names)), dtype=index["image"].dtype)
    rows = index[np.isin(index["image"], wanted)]
    shards = [shard_name(number, encoding) for number in rows["shard"]]
    images = Shards(version.open).pixels(shards, rows["row"].tolist())
    return {name.decode(): data_uri(image) for name, image in zip(rows["image"], images, strict=True)}


def data_uri(image: np.ndarray) -> str:
    """Encode a (side, side, 3) uint8 RGB image as a JPEG data URI, scaled down to MAX_SIDE pixels."""
    if len(image) > MAX_SIDE:
        image = cv2.resize(image, (MAX_SIDE, MAX_SIDE), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
