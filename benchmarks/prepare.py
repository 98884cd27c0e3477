"""Measure how fast prepare decodes large photographs on one core, as ratios within one run.

    python benchmarks/prepare.py

Compared with decoding at full size (open and resize, as a simple loader does), and with the necessary minimum: decode
the JPEG into an array at the scale that is needed, and encode one row. Prepare's time includes everything: worker
process, resize, hashes, database. Times are processor time, so a busy machine changes the ratios little. The
photographs are drawn leaves, enlarged to 4000 x 2672 px with grain, of about the same file size as the competition's
(0.85 MB).
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from plant_pathology.competition.sample import LABEL_SETS, photograph
from plant_pathology.data.decode_cache import decode_image, open_decode_cache
from plant_pathology.data.shards import encode
from plant_pathology.inference.decode import DRAFT, decode

if sys.platform != "win32":
    import resource

PHOTOGRAPHS, LINKS, REPEATS = 8, 48, 5  # 384 images per start, so that starting a worker hardly counts, as in prepare
SETTINGS = {"": (256, "jpeg", 95), "_64px": (64, "raw", 95)}  # suffix of the ratios: how the rows are stored


def measure() -> dict[str, float]:
    """Return the ratios of medians `images_per_second_vs_full_decode` and `seconds_vs_decode_floor` per SETTINGS."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(photographs(Path(folder)), Path(folder))


def _measure(paths: list[Path], folder: Path) -> dict[str, float]:
    ratios, few = {}, paths[: 12 * PHOTOGRAPHS]
    for suffix, (side, encoding, quality) in SETTINGS.items():
        square = decode(paths[0], side)
        decode_image(paths[0], side, encoding, quality)  # import what prepare has imported before its workers start

        def full(side: int = side) -> None:
            for path in paths[:PHOTOGRAPHS]:
                np.asarray(Image.open(path).resize((side, side), Image.Resampling.BICUBIC))

        def floor(side: int = side, row: tuple = (encoding, quality), square: np.ndarray = square) -> None:
            for path in few:
                with Image.open(path) as image:
                    image.draft("RGB", (int(DRAFT * side), int(DRAFT * side)))
                    np.asarray(image)
                encode(square, *row)

        def prepare(settings: tuple = (side, encoding, quality)) -> None:
            database = folder / "decoded.sqlite"
            with open_decode_cache(database, *settings) as decoded:
                new, bad = decoded.decode_missing({path.name: path for path in paths}, workers=1)
            database.unlink()
            assert new == len(paths) and not bad

        times = {"full": [], "floor": [], "prepare": []}
        for _ in range(REPEATS):
            times["full"].append(seconds(full) / PHOTOGRAPHS)
            times["floor"].append(seconds(floor) / len(few))
            times["prepare"].append(seconds(prepare) / len(paths))
        median = {kind: statistics.median(found) for kind, found in times.items()}
        print(f"{side} px, {encoding}", *(f"{kind} {1e3 * value:.1f} ms" for kind, value in median.items()), sep="  ")
        ratios[f"images_per_second_vs_full_decode{suffix}"] = median["full"] / median["prepare"]
        ratios[f"seconds_vs_decode_floor{suffix}"] = median["prepare"] / median["floor"]
    return ratios


def photographs(folder: Path) -> list[Path]:
    """Write PHOTOGRAPHS files, each with LINKS names."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(PHOTOGRAPHS):
        leaf = photograph(list(LABEL_SETS)[number].split(), rng).resize((4000, 2672), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 2, (2672, 4000, 1))
        path = folder / f"0-{number}.jpg"
        Image.fromarray((np.asarray(leaf) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=84)
        paths.append(path)
    print(f"photographs of {statistics.mean(path.stat().st_size for path in paths) / 1e6:.2f} MB")
    for link in range(1, LINKS):
        for path in paths[:PHOTOGRAPHS]:
            paths.append(folder / f"{link}-{path.name[2:]}")
            os.link(path, paths[-1])
    return paths


def seconds(job: Callable[[], None]) -> float:
    """Return the processor seconds of a job, in this process and in its ended workers."""
    start = used()
    job()
    return used() - start


def used() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    for ratio, value in measure().items():
        print(f"{ratio:40} {value:.2f}")
