"""Decode an image file to a square of pixels, in the same way for `prepare` and for the kernel."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# JPEG is decoded at the smallest of its scales that is at least this factor times the side. A smaller factor leaves no
# pixels for the resize to average; a larger one costs time without a visible gain.
DRAFT = 1.25


class ImageError(ValueError):
    """A file is not a complete image.

    Attributes:
        path: the file.
        reason: what is wrong, without the path, so that it is the same on every machine.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


Opener = Callable[[Path], Image.Image]


def decode(path: Path, side: int, opener: Opener = Image.open) -> np.ndarray:
    """Decode an image, turn it upright (EXIF orientation), convert it to RGB, and resize it to a square.

    The aspect ratio is not kept. A large JPEG is decoded at a reduced scale, which is much faster.

    Args:
        path: JPEG, PNG or any other format that Pillow reads, of any size and mode.
        side: side of the square, in pixels.
        opener: opens the file: Pillow's, or a competition's own (custom.py).

    Returns:
        (side, side, 3) uint8 RGB; transparency is ignored.

    Raises:
        ImageError: the file is missing, empty, truncated or not an image.
    """
    return decode_with_size(path, side, opener)[0]


def decode_with_size(path: Path, side: int, opener: Opener = Image.open) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode as `decode` does; also return the upright original's width and height in pixels."""
    (square,), size = decode_squares(path, [side], opener)
    return square, size


def decode_squares(
    path: Path, sides: Sequence[int], opener: Opener = Image.open
) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Decode as `decode_with_size` does, to one square per side; sides that share a JPEG scale are decoded once."""
    squares: list[np.ndarray] = []
    decoded: dict[tuple | None, Image.Image] = {}
    try:
        for side in sides:
            with opener(path) as image:
                width, height = image.size
                if image.getexif().get(ExifTags.Base.Orientation, 1) > 4:  # rotated by 90 degrees
                    width, height = height, width
                # Let the JPEG decoder scale to 1/2, 1/4 or 1/8; other formats ignore it.
                image.draft("RGB", (int(DRAFT * side), int(DRAFT * side)))
                scale = getattr(image, "decoderconfig", None)  # a file's; images made in memory have none
                if scale not in decoded:
                    ImageOps.exif_transpose(image, in_place=True)
                    decoded[scale] = image if image.mode == "RGB" else to_8_bits(image).convert("RGB")
                square = decoded[scale].resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
                squares.append(np.asarray(square))
    except Exception as error:  # on damaged files Pillow raises anything: struct.error, IndexError, EOFError …
        raise ImageError(path, describe_error(error, path)) from error
    return squares, (width, height)


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, which Pillow's own conversion would clip to white; return other modes unchanged."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image, np.float32) / 257).round().clip(0, 255).astype(np.uint8))


def describe_error(error: Exception, path: Path) -> str:
    """Return what is wrong with a file, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read" if path.stat().st_size else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{error}" or type(error).__name__
