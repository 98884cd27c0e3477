"""One image file to one square of pixels. Training and the kernel both decode here, so they see the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

DRAFT = 1.25  # times the side: below it a draft has nothing left to average, above it costs more than it shows


class ImageError(ValueError):
    """A file that holds no whole image.

    Attributes:
        reason: what is wrong, in words that are the same on any machine.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def decode(path: Path, side: int) -> np.ndarray:
    """Decode an image at the scale it is needed in, upright, in colour, squeezed to a square.

    Args:
        path: JPEG, PNG or whatever Pillow reads, of any size and mode.
        side: of the square, in pixels.

    Returns:
        (side, side, 3) uint8 RGB; transparency is ignored.

    Raises:
        ImageError: the file is missing, empty, truncated or no image.
    """
    return decode_with_size(path, side)[0]


def decode_with_size(path: Path, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """As `decode`, with the original's width and height in pixels, upright."""
    (square,), size = decode_squares(path, [side])
    return square, size


def decode_squares(path: Path, sides: Sequence[int]) -> tuple[list[np.ndarray], tuple[int, int]]:
    """As `decode_with_size`, a square for each side; what is decoded at one scale for several is decoded once."""
    squares, decoded = [], {}
    try:
        for side in sides:
            with Image.open(path) as image:
                width, height = image.size
                if image.getexif().get(ExifTags.Base.Orientation, 1) > 4:  # lies on its side
                    width, height = height, width
                # JPEG decodes straight to 1/2, 1/4 or 1/8.
                image.draft("RGB", (int(DRAFT * side), int(DRAFT * side)))
                scale = image.decoderconfig
                if scale not in decoded:
                    ImageOps.exif_transpose(image, in_place=True)
                    decoded[scale] = image if image.mode == "RGB" else to_8_bits(image).convert("RGB")
                square = decoded[scale].resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
                squares.append(np.asarray(square))
    except Exception as error:  # Pillow's readers raise what they stumble over: struct.error, IndexError, EOFError …
        raise ImageError(path, reason(error, path)) from error
    return squares, (width, height)


def to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits; Pillow's own conversion clips it to white. Other modes as they are."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image, np.float32) / 257).round().clip(0, 255).astype(np.uint8))


def reason(error: Exception, path: Path) -> str:
    """What an exception says of a file, without the path to it."""
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows" if path.stat().st_size else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{error}" or type(error).__name__
