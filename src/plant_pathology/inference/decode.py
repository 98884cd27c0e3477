"""Decode an image file to a square of pixels, in the same way for `prepare` and for the kernel.

The rule depends on the kind of file alone, never on the other pixels of a picture, so that pictures stay comparable;
docs/data.md has the table.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from plant_pathology.inference.file_kinds import OWN, unreadable_picture

# JPEG is decoded at the smallest of its scales that is at least this factor times the side. A smaller factor leaves no
# pixels for the resize to average; a larger one costs time without a visible gain.
DRAFT = 1.25
RULES = 2  # raised when any file decodes to other pixels than before
MOST_PIXELS = 178_956_970  # of a file: Pillow's own limit; as RGB they take 0.5 GB
TURNS = {  # what makes a picture upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NO_SCALE = f"whole numbers of 32 bits or with a sign, whose scale is unknown: {OWN}"
SIDEWAYS = (TURNS[5], TURNS[6], TURNS[7], TURNS[8])
SAMPLE_FORMAT, SIGNED = 339, 2  # of TIFF; Pillow takes whole numbers of 8 bits with a sign for those without
# Of a PNG's texts and color profile, which do not matter here; above Pillow's 1 MB it would refuse the picture.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**28


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


class Original(NamedTuple):
    """What is known of the file that a square was decoded from.

    Attributes:
        width, height: upright, in pixels.
        deep: it has more than 8 bits per channel.
    """

    width: int
    height: int
    deep: bool


def decode(path: Path, side: int, opener: Opener = Image.open) -> np.ndarray:
    """Decode an image, turn it upright (EXIF orientation), convert it to RGB, and resize it to a square.

    The aspect ratio is not kept. A large JPEG is decoded at a reduced scale, which is much faster.

    Args:
        path: JPEG, PNG or any other format that Pillow reads; of several pages or frames, the first is used.
        side: side of the square, in pixels.
        opener: opens the file: Pillow's, or a competition's own (custom.py).

    Returns:
        (side, side, 3) uint8 RGB; transparency is ignored.

    Raises:
        ImageError: the file is missing, empty, truncated, too large, no image, or its numbers have no known scale.
    """
    return decode_with_original(path, side, opener)[0]


def decode_with_original(path: Path, side: int, opener: Opener = Image.open) -> tuple[np.ndarray, Original]:
    """Decode as `decode` does; also return what is known of the original."""
    (square,), original = decode_squares(path, [side], opener)
    return square, original


def decode_squares(path: Path, sides: Sequence[int], opener: Opener = Image.open) -> tuple[list[np.ndarray], Original]:
    """Decode as `decode_with_original` does, one square per side; sides that share a JPEG scale are decoded once."""
    # Pillow's, of many pixels and of damaged metadata, which do not matter here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    squares: list[np.ndarray] = []
    decoded: dict[tuple | None, Image.Image] = {}
    try:
        if path.exists() and not path.is_file():  # a named pipe would be waited for, without an end
            raise ValueError("not a regular file")
        for side in sides:
            with opener(path) as image:
                width, height = image.size
                if opener is Image.open and width * height > MOST_PIXELS:  # of which some versions of Pillow only warn
                    raise Image.DecompressionBombError
                if SIGNED in (getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT) or ()):
                    raise ValueError(NO_SCALE)
                deep = is_deep(image)
                # Let the JPEG decoder scale to 1/2, 1/4 or 1/8; other formats ignore it.
                image.draft("RGB", (int(DRAFT * side), int(DRAFT * side)))
                scale = getattr(image, "decoderconfig", None)  # a file's; images made in memory have none
                if scale not in decoded:
                    image.load()  # which turns a TIFF, and then says so
                    turn = turn_of(image)
                    upright = image if turn is None else image.transpose(turn)
                    decoded[scale] = upright if image.mode == "RGB" else to_8_bits(upright, image.format).convert("RGB")
                square = decoded[scale].resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
                squares.append(np.asarray(square))
    except Exception as error:  # on damaged files Pillow raises anything: struct.error, IndexError, EOFError …
        raise ImageError(path, describe_error(error, path)) from error
    return squares, Original(*((height, width) if turn in SIDEWAYS else (width, height)), deep)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return what makes a picture upright; None if it is, or if its EXIF data is damaged."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # any, as in `decode_squares`; the pixels do not depend on it
        return None


def is_deep(image: Image.Image) -> bool:
    """Return whether a file has more than 8 bits per channel; of 16-bit color, Pillow reads the upper 8 alone."""
    tiles = getattr(image, "tile", None)  # what the decoder reads, and in which form, such as RGB;16B
    return image.mode[0] in "IF" or bool(tiles and ";16" in str(tiles[0][3]))


def to_8_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Scale 16 bits and floats to 8 bits, which Pillow's own conversion would clip; return other modes unchanged.

    Args:
        kind: format of the file. Of PNG and PPM, some versions of Pillow read 16 bits as mode I.

    Raises:
        ValueError: no scale follows from the mode, or a number is outside of it.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # also false of NaN
            raise ValueError(f"floats from {values.min():g} to {values.max():g}, where 0 is black and 1 white: {OWN}")
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if image.mode in ("I", "LAB"):
        raise ValueError(NO_SCALE if image.mode == "I" else f"colors in Lab, whose scale is unknown: {OWN}")
    return image


def describe_error(error: Exception, path: Path) -> str:
    """Return what is wrong with a file, without its path."""
    if isinstance(error, UnidentifiedImageError) or "cannot find loader" in str(error):
        return describe_unknown(path)
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MOST_PIXELS:,} pixels: save it smaller, or {OWN}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{error}" or type(error).__name__


def describe_unknown(path: Path) -> str:
    """Return what a file is that Pillow cannot read."""
    if not path.stat().st_size:
        return "empty file"
    return unreadable_picture(path) or f"not an image that Pillow can read: replace it, or {OWN}"
