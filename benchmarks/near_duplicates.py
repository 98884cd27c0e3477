"""Compare the distances of perceptual hashes between copies of an image with those between different images.

    python benchmarks/near_duplicates.py <folder of images>

Copies are made of every 20th image: at quality 30, at half and at one and a half times the size, and at half the size
with low quality. The threshold `prepare.near_bits` must be between the two columns.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from plant_pathology.data.duplicates import bits_apart
from plant_pathology.inference.decode import decode

SIDES = (64, 256)
HASHES = {
    "phash, 64 bits": lambda image: imagehash.phash(image, 8),
    "dhash, 256 bits": lambda image: imagehash.dhash(image, 16),
    "phash, 256 bits": lambda image: imagehash.phash(image, 16),
}
COPIES = ((1, 30), (0.5, 85), (1.5, 85), (0.5, 50))  # scale, JPEG quality


def main(folder: Path) -> None:
    files = sorted(folder.iterdir())
    print("| side | hash | farthest copy | nearest pairs in the folder, bits (pairs) |\n|---|---|---|---|")
    for side in SIDES:
        for name, hash_of in HASHES.items():
            hashes = [bits(hash_of, file, side) for file in files]
            farthest = max(
                int((bits(hash_of, copy, side) != own).sum())
                for file, own in zip(files[::20], hashes[::20], strict=True)
                for copy in copies(file)
            )
            packed = np.packbits(np.stack(hashes), axis=1).view(np.uint64)
            distances = bits_apart(packed, packed)[np.triu_indices(len(packed), k=1)]
            nearest = zip(
                *np.unique(distances[distances <= 0.35 * packed.shape[1] * 64], return_counts=True), strict=True
            )
            shown = ", ".join(f"{distance} ({count})" for distance, count in list(nearest)[:5])
            print(f"| {side} | {name} | {farthest} | {shown} |", flush=True)


def bits(hash_of, file: Path | io.BytesIO, side: int) -> np.ndarray:
    name = file if isinstance(file, Path) else Path("copy.jpg")
    return hash_of(Image.fromarray(decode(name, side, lambda _: Image.open(file)))).hash.ravel()


def copies(file: Path) -> Iterator[io.BytesIO]:
    image = Image.open(file).convert("RGB")
    for scale, quality in COPIES:
        copy = io.BytesIO()
        image.resize([int(scale * length) for length in image.size]).save(copy, "JPEG", quality=quality)
        yield copy


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python benchmarks/near_duplicates.py <folder of images>")
    main(Path(sys.argv[1]))
