"""How fast prepare decodes large photographs on one core, as ratios within one run.

python benchmarks/prepare.py

Against decoding in full (open, convert, resize: what a simple loader does), and against the floor: decoding the JPEG
at the scale it is needed in and encoding one row, alone. Prepare's time has everything in it: worker process, resize,
hashes, database. Processor seconds count, so that a busy machine gives the same ratios. The photographs are drawn
leaves, enlarged to 4000 x 2672 with grain, about as heavy as the competition's (0.85 MB).
"""

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from plant_pathology.decoded import decode_row, open_decoded
from plant_pathology.images import DRAFT, decode
from plant_pathology.sample import LABEL_SETS, photograph
from plant_pathology.shards import encode

PHOTOGRAPHS, LINKS, REPEATS = 8, 16, 7
SETTINGS = {"64px_raw": (64, "raw", 95), "256px_jpeg": (256, "jpeg", 95)}


def measure() -> dict[str, float]:
    """Ratios of medians, on one core: for each of SETTINGS, `<setting>_vs_full_decode`, how many times as many images
    a second as decoding in full, and `<setting>_vs_floor`, how many times the floor's time."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measure(photographs(Path(folder)), Path(folder))
    finally:
        os.sched_setaffinity(0, before)


def _measure(paths: list[Path], folder: Path) -> dict[str, float]:
    ratios = {}
    for name, (side, encoding, quality) in SETTINGS.items():
        squares = {path: decode(path, side) for path in paths[:PHOTOGRAPHS]}
        decode_row(paths[0], side, encoding, quality)  # loads what the stage has loaded before its workers start

        def full(side: int = side) -> None:
            for path in paths[:PHOTOGRAPHS]:
                np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

        def floor(side: int = side, row: tuple = (encoding, quality), squares: dict = squares) -> None:
            for path in squares:
                with Image.open(path) as image:
                    image.draft("RGB", (int(DRAFT * side), int(DRAFT * side)))
                    image.load()
                encode(squares[path], *row)

        def prepare(settings: tuple = (side, encoding, quality)) -> None:
            database = folder / "decoded.sqlite"
            with open_decoded(database, *settings) as decoded:
                new, bad = decoded.add(paths, workers=1)
            database.unlink()
            assert new == len(paths) and not bad

        times = {"full": [], "floor": [], "prepare": []}
        for _ in range(REPEATS):
            times["full"].append(seconds(full) / PHOTOGRAPHS)
            times["floor"].append(seconds(floor) / PHOTOGRAPHS)
            times["prepare"].append(seconds(prepare) / len(paths))
        median = {kind: statistics.median(found) for kind, found in times.items()}
        print(name, *(f"{kind} {1e3 * value:.1f} ms" for kind, value in median.items()), sep="  ")
        ratios[f"{name}_vs_full_decode"] = median["full"] / median["prepare"]
        ratios[f"{name}_vs_floor"] = median["prepare"] / median["floor"]
    return ratios


def photographs(folder: Path) -> list[Path]:
    """PHOTOGRAPHS files, each under LINKS names."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(PHOTOGRAPHS):
        leaf = photograph(list(LABEL_SETS)[number].split(), rng).resize((4000, 2672), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 2, (2672, 4000, 1))
        path = folder / f"0-{number}.jpg"
        Image.fromarray((np.asarray(leaf) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=82)
        paths.append(path)
    print(f"photographs of {statistics.mean(path.stat().st_size for path in paths) / 1e6:.2f} MB")
    for link in range(1, LINKS):
        for path in paths[:PHOTOGRAPHS]:
            paths.append(folder / f"{link}-{path.name[2:]}")
            os.link(path, paths[-1])
    return paths


def seconds(job: Callable[[], None]) -> float:
    """Of the processor, this process and the workers that it ended."""
    start = sum(os.times()[:4])
    job()
    return sum(os.times()[:4]) - start


if __name__ == "__main__":
    for ratio, value in measure().items():
        print(f"{ratio:28} {value:.2f}")
