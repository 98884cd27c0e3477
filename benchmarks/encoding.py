"""Measure the cost and error of storing images, by side and encoding, and of decoding large JPEGs at a smaller scale.

    python benchmarks/encoding.py <folder of images>

Rows are encoded and decoded as in shards; their error is relative to the square before encoding. Large JPEGs are
mosaics of the images, 4000 x 2672 px; their error is relative to decoding at full size. Errors are in steps of 255.
Times are processor time on one core.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from plant_pathology.data.shards import encode, open_shard, shard_name, write_shard
from plant_pathology.inference import decode as images
from plant_pathology.inference.decode import decode

IMAGES, REPEATS = 200, 5
SIDES = (64, 128, 256)
QUALITIES = (85, 90, 95, 98)
DRAFTS = (1.0, images.DRAFT, 2.0, 100.0)  # minimum scale, relative to the side; 100: full size


def main(folder: Path) -> None:
    cv2.setNumThreads(1)
    files = sorted(folder.iterdir())
    files = files[:: max(1, len(files) // IMAGES)][:IMAGES]
    drafts(files)
    print("\n| side, px | rows | bytes per image | decode, us | mean error | PSNR, dB |\n|---|---|---|---|---|---|")
    for side in SIDES:
        squares = np.stack([decode(file, side) for file in files])
        report(side, "raw", "raw", [encode(square, "raw", 0) for square in squares], squares)
        for quality in QUALITIES:
            report(side, f"jpeg {quality}", "jpeg", [encode(square, "jpeg", quality) for square in squares], squares)
        report(side, "jpeg 95, halved color", "jpeg", [halved(square, 95) for square in squares], squares)


def drafts(files: list[Path]) -> None:
    """Print the time of decoding at each scale, and the error relative to decoding at full size."""
    kept = images.DRAFT
    print("| side, px | decoded at least at, times the side | ms | mean error | PSNR, dB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = [mosaic(files[start::4], Path(folder) / f"{start}.jpg") for start in range(4)]
        for side in SIDES:
            found = {}
            for images.DRAFT in reversed(DRAFTS):
                start = time.process_time()
                for _ in range(REPEATS):
                    found[images.DRAFT] = np.stack([decode(path, side) for path in paths]).astype(np.float32)
                ms = 1e3 * (time.process_time() - start) / REPEATS / len(paths)
                error = found[images.DRAFT] - found[DRAFTS[-1]]
                print(f"| {side} | {images.DRAFT:g} | {ms:.1f} | {np.abs(error).mean():.2f} | {decibel(error)} |")
    images.DRAFT = kept


def mosaic(files: list[Path], path: Path) -> Path:
    tiles = [np.asarray(Image.open(file).convert("RGB").resize((500, 446))) for file in files[:48]]
    pixels = np.concatenate([np.concatenate(tiles[row : row + 8], axis=1) for row in range(0, 48, 8)])
    Image.fromarray(pixels[:2672]).save(path, quality=90)
    return path


def decibel(error: np.ndarray) -> str:
    """Return the peak signal-to-noise ratio in dB."""
    return f"{10 * np.log10(255**2 / np.square(error).mean()):.1f}" if error.any() else "exact"


def report(side: int, name: str, encoding: str, rows: list[bytes], squares: np.ndarray) -> None:
    """Print the time to decode these rows, and their error relative to the squares."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / shard_name(0, encoding)
        write_shard(path, rows, side)
        shard = open_shard(path, path.name)
        times = []
        for _ in range(REPEATS):
            start = time.process_time()
            read = [np.array(shard.pixels(row)) for row in range(len(rows))]
            times.append((time.process_time() - start) / len(rows))
    error = np.stack(read).astype(np.float32) - squares
    size, us = statistics.mean(map(len, rows)), 1e6 * statistics.median(times)
    print(f"| {side} | {name} | {size:.0f} | {us:.0f} | {np.abs(error).mean():.2f} | {decibel(error)} |")


def halved(square: np.ndarray, quality: int) -> bytes:
    """Encode a JPEG as most programs do: with color at half the resolution."""
    options = (cv2.IMWRITE_JPEG_QUALITY, quality)
    return cv2.imencode(".jpg", cv2.cvtColor(square, cv2.COLOR_RGB2BGR), options)[1].tobytes()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python benchmarks/encoding.py <folder of images>")
    main(Path(sys.argv[1]))
