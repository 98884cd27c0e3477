"""Draw image files as people have them: every mode, depth and format, damaged ones, and what only looks like an image.

All show one picture: the upper left quarter is dark, the others get brighter clockwise; so turns and flips show.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SIDE = 32
LEVELS = (0.1, 0.4, 0.6, 0.9)  # brightness of the quarters: upper left, upper right, lower right, lower left
COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))  # of the quarters of the picture in color


def gray() -> np.ndarray:
    """Return the picture, (SIDE, SIDE) from 0 to 1."""
    half = SIDE // 2
    picture = np.zeros((SIDE, SIDE))
    parts = ((0, 0), (0, half), (half, half), (half, 0))
    for (top, left), level in zip(parts, LEVELS, strict=True):
        picture[top : top + half, left : left + half] = level
    return picture


def color() -> Image.Image:
    """Return the picture in color."""
    half = SIDE // 2
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for (top, left), each in zip(((0, 0), (0, half), (half, half), (half, 0)), COLORS, strict=True):
        pixels[top : top + half, left : left + half] = each
    return Image.fromarray(pixels)


def scaled(white: float, kind: type | str) -> Image.Image:
    """Return the gray picture with another value for white."""
    return Image.fromarray((gray() * white).astype(kind))


def png_16_bit_color(path: Path) -> None:
    """Write a PNG with 16 bits per channel, which Pillow cannot write."""
    pixels = (np.asarray(color(), np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def saved(image: Image.Image, kind: str, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, kind, **options)


def content(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data)


def broken_exif(path: Path) -> None:
    """Write a JPEG whose EXIF data begins right and goes on with noise."""
    noise = np.random.default_rng(0).bytes(200)
    path.write_bytes(content(color(), "JPEG", quality=98, exif=b"Exif\0\0II*\0\x08\0\0\0" + noise))


def png_with_a_long_text(path: Path) -> None:
    """Write a PNG with more text than Pillow reads by default, as microscopes and image editors write it."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 2_000_000, zip=True)
    color().save(path, "PNG", pnginfo=info)


def linked_to_itself(path: Path) -> None:
    path.symlink_to(path)


def transparent(mode: str) -> Image.Image:
    """Return the picture with every pixel transparent: its colors must still be there."""
    image = (color() if mode == "RGBA" else color().convert("L")).convert(mode)
    image.putalpha(0)
    return image


# What decodes to the picture in color, and how to write it: {name: write}.
COLOR = {
    "plain.png": saved(color(), "PNG"),
    "renamed.jpg": saved(color(), "PNG"),
    "16 bits.png": png_16_bit_color,
    "palette.png": saved(color().quantize(8), "PNG"),
    "palette with transparency.png": saved(color().quantize(8), "PNG", transparency=0),
    "transparent.png": saved(transparent("RGBA"), "PNG"),
    "first of two frames.gif": saved(color(), "GIF", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]),
    "first of two pages.tif": saved(color(), "TIFF", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]),
    "lossless.webp": saved(color(), "WEBP", lossless=True),
    "bitmap.bmp": saved(color(), "BMP"),
    "jpeg 2000.jp2": saved(color(), "JPEG2000"),
    "lzw.tif": saved(color(), "TIFF", compression="tiff_lzw"),
    "cmyk.jpg": saved(color().convert("CMYK"), "JPEG", quality=100, subsampling=0),
    "cmyk.tif": saved(color().convert("CMYK"), "TIFF"),
    "progressive.jpg": saved(color(), "JPEG", quality=98, progressive=True, subsampling=0),
    "trailing bytes.jpg": with_bytes(content(color(), "JPEG", quality=98, subsampling=0) + b"\0" * 999),
    "broken exif.jpg": broken_exif,
    "no exif at all.jpg": saved(color(), "JPEG", quality=98, subsampling=0, exif=b"Exif\0\0"),
    "broken profile.jpg": saved(color(), "JPEG", quality=98, subsampling=0, icc_profile=b"no profile"),
    "two pictures.mpo": saved(color(), "MPO", save_all=True, append_images=[color()], quality=98, subsampling=0),
    "long text.png": png_with_a_long_text,
    "ä ö\nü.png": saved(color(), "PNG"),
}
# What decodes to the gray picture.
GRAY = {
    "8 bits.png": saved(scaled(255, np.uint8), "PNG"),
    "16 bits.png": saved(scaled(65535, np.uint16), "PNG"),
    "16 bits.tif": saved(scaled(65535, np.uint16), "TIFF"),
    "16 bits.pgm": with_bytes(b"P5 32 32 65535\n" + (gray() * 65535).astype(">u2").tobytes()),
    "16 bits, big-endian.tif": saved(
        Image.frombytes("I;16B", (SIDE, SIDE), (gray() * 65535).astype(">u2").tobytes()), "TIFF"
    ),
    "floats from 0 to 1.tif": saved(scaled(1, np.float32), "TIFF"),
    "gray, transparent.png": saved(Image.merge("LA", [scaled(255, np.uint8), Image.new("L", (SIDE, SIDE))]), "PNG"),
}
# What is refused, and with which words: {name: (write, words)}.
REFUSED = {
    "32-bit numbers.tif": (
        saved(scaled(70000, np.int32), "TIFF"),
        "whole numbers of 32 bits or with a sign",
    ),
    "floats to 65535.tif": (
        saved(scaled(65535, np.float32), "TIFF"),
        "floats from 6553.5 to 58981.5, where",
    ),
    "hounsfield units.tif": (
        saved(Image.fromarray((gray() * 3000 - 1000).astype(np.float32)), "TIFF"),
        "floats from -700",
    ),
    "nan.tif": (saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), "floats from nan to nan"),
    "lab.tif": (
        saved(Image.new("LAB", (SIDE, SIDE)), "TIFF"),
        "colors in Lab, whose scale is unknown: open it",
    ),
    "truncated.jpg": (with_bytes(content(color(), "JPEG")[:-40]), "runcated"),
    "truncated.png": (with_bytes(content(color(), "PNG")[:-40]), "truncated"),
    "empty.jpg": (with_bytes(b""), "empty file"),
    "page.jpg": (with_bytes(b"<html>404</html>"), "a web page"),
    "scan.dcm": (
        with_bytes(b"\0" * 128 + b"DICM" + b"\0" * 99),
        "DICOM, which Pillow cannot read: open it",
    ),
    "phone.heic": (with_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 99), "HEIC, which Pillow cannot read: open it"),
    "codestream.jxl": (with_bytes(b"\xff\x0a" + b"\0" * 99), "JPEG XL, which Pillow cannot read: open it"),
    "film.mp4": (with_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99), "a video, which Pillow cannot read: open it"),
    "pointer.jpg": (
        with_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "a pointer of Git LFS, not the file: get",
    ),
    "zeros.jpg": (with_bytes(b"\0" * 999), "nothing but zeros, as after a crash"),
    "8 bits with a sign.tif": (saved(scaled(100, np.int8), "TIFF", tiffinfo={339: 2}), "bits or with a sign"),
    "array.npy": (with_bytes(b"\x93NUMPY\1\0" + b"\0" * 99), "a NumPy array, which Pillow cannot read"),
    "pipe.jpg": (os.mkfifo, "not a regular file"),
    "folder.jpg": (Path.mkdir, "not a regular file"),
    "loop.jpg": (linked_to_itself, "Too many levels of symbolic links"),
    "nowhere.jpg": (lambda path: path.symlink_to("nothing"), "No such file or directory"),
    "huge.png": (lambda path: huge(path), "more than 178,956,970 pixels: save it smaller"),
}


def huge(path: Path) -> None:
    """Write a PNG that says that it has 20,000 x 20,000 pixels; it need not have them, as none may be read."""
    Image.new("L", (1, 1)).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
