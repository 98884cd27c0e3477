"""One image file to one square of pixels. Training and the kernel both decode here, so they see the same."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class ImageError(ValueError):
    """A file that holds no whole image."""


def decode(path: Path, side: int) -> np.ndarray:
    """Decode an image at the scale it is needed in, upright, in colour, squeezed to a square.

    Args:
        path: JPEG, PNG or whatever Pillow reads, of any size and mode.
        side: of the square, in pixels.

    Returns:
        (side, side, 3) uint8 RGB.

    Raises:
        ImageError: the file is missing, empty, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            # JPEG decodes straight to 1/2, 1/4 or 1/8; twice the side leaves the resize something to average.
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(upright.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: {error}") from error
