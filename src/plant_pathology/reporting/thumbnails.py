"""Make thumbnails from a data version, as data URIs for the page."""

import base64
from collections.abc import Iterable

import cv2
import numpy as np

from plant_pathology.store.pixels import read_pixels
from plant_pathology.store.version import Version

MAX_SIDE = 160  # pixels
QUALITY = 85  # of JPEG


def thumbnails(version: Version, names: Iterable[str]) -> dict[str, str]:
    """Return JPEGs of the named images as data URIs by name, without those that the version lacks."""
    return {name: data_uri(image) for name, image in read_pixels(version, names)}


def data_uri(image: np.ndarray) -> str:
    """Encode a (side, side, 3) uint8 RGB image as a JPEG data URI, scaled down to MAX_SIDE pixels."""
    if len(image) > MAX_SIDE:
        image = cv2.resize(image, (MAX_SIDE, MAX_SIDE), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
