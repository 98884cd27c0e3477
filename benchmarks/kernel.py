"""Compare the kernel's time for 5,000 photographs of 4000 x 2672 px with the minimum that decoding and networks need.

    python benchmarks/kernel.py

Decoding: all cores decode JPEGs into arrays at the scale that is needed, and do nothing else. Networks: they predict
the same number of batches, which are already in memory. Each is measured in its own process. The kernel's time is that
of write_submission, including reading the bundle. Starting Python and importing torch take the same time for any number
of images, so they are not included; the column `start` shows them.

With a GPU, decoding and networks run at the same time. Most machines that measure have no GPU, so a pause of the same
length as decoding stands in for it. That is the hardest case: without overlap the ratio would be 2. It does not include
copying images to a GPU. Networks on the CPU, a small and a large one, share the cores with decoding. Then the minimum
is their total processor time, divided by the number of cores; the column `cores` compares with that. If there is a GPU,
the networks run on it; then look at the column `larger`. The column `work` compares the kernel's processor time with
that of decoding and networks together; a busy machine changes this ratio less.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from multiprocessing import Pool
from pathlib import Path
from time import perf_counter, sleep, time

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from plant_pathology.competition.sample import LABEL_SETS, photograph
from plant_pathology.inference import predictor as predict
from plant_pathology.inference.decode import DRAFT
from plant_pathology.inference.predictor import BATCH_SIZE, Predictor, write_submission

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.bundles import LABELS, SIDE, write_bundle

if sys.platform != "win32":
    import resource

PHOTOGRAPHS = 40
ALL, FEWER, FEW = 5000, 1000, 64


def measure() -> dict[str, float]:
    """Return ratios of seconds, and of peak memory."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        photographs(root)
        decode = {images: alone("decode", root, images) for images in (ALL, FEW)}
        write_bundle(root, "mobilenetv3_small_050", views=1)
        pause = decode[ALL]["seconds"] / -(-ALL // BATCH_SIZE)
        beside = alone("beside", root, ALL, pause)
        small, fewer = alone("model", root, ALL), alone("kernel", root, FEWER)
        rows = {
            "a pause": (ALL, {"seconds": decode[ALL]["seconds"], "processor": 0.0}, beside),
            "MobileNetV3 small": (ALL, small, alone("kernel", root, ALL)),
        }
        write_bundle(root, "resnet50", views=4)
        rows["ResNet50, 4 views"] = (FEW, alone("model", root, FEW), alone("kernel", root, FEW))
    table = Table("", "images", "decode, s", "networks, s", "kernel, s", "start, s", "larger", "cores", "work", "MB")
    larger, cores = {}, {}
    for name, (images, model, kernel) in rows.items():
        floor = max(decode[images]["seconds"], model["seconds"])
        work = decode[images]["processor"] + model["processor"]
        larger[name] = kernel["seconds"] / floor
        cores[name] = kernel["seconds"] / max(floor, work / os.cpu_count())
        seconds = (decode[images]["seconds"], model["seconds"], kernel["seconds"], kernel["start"])
        ratios = (larger[name], cores[name], kernel["processor"] / work)
        cells = [*(f"{each:.1f}" for each in seconds), *(f"{each:.2f}" for each in ratios)]
        table.add_row(name, f"{images:,}", *cells, f"{kernel['megabytes']:.0f}")
    Console(width=120).print(table)
    *_, all_small = rows["MobileNetV3 small"]
    return {
        "kernel_vs_larger_of_decode_and_model": larger["a pause"],
        "kernel_vs_shared_cores": max(cores["MobileNetV3 small"], cores["ResNet50, 4 views"]),
        "memory_5000_vs_1000_images": all_small["megabytes"] / fewer["megabytes"],
    }


def photographs(root: Path) -> None:
    """Write ALL files to test_images: hard links to PHOTOGRAPHS grainy leaves of 4000 x 2672 px, of realistic size."""
    rng = np.random.default_rng(0)
    (root / "test_images").mkdir()
    names = [f"{number:04}.jpg" for number in range(ALL)]
    for number, name in enumerate(names[:PHOTOGRAPHS]):
        labels = list(LABEL_SETS)[number % len(LABEL_SETS)].split()
        leaf = photograph(labels, rng).resize((4000, 2672), Image.Resampling.BICUBIC)
        grain = rng.uniform(2, 5) * rng.standard_normal((leaf.height, leaf.width, 1), np.float32)
        pixels = (np.asarray(leaf) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "test_images" / name, quality=int(rng.integers(84, 92)))
    sizes = [path.stat().st_size / 1e6 for path in (root / "test_images").iterdir()]
    print(f"photographs of {min(sizes):.1f} to {max(sizes):.1f} MB, {statistics.mean(sizes):.1f} on average")
    for number, name in enumerate(names[PHOTOGRAPHS:]):
        os.link(root / "test_images" / names[number % PHOTOGRAPHS], root / "test_images" / name)


def alone(job: str, root: Path, images: int, *more: float) -> dict[str, float]:
    """Run one of JOBS in its own process.

    Returns:
        Wall and processor seconds, seconds before the job starts, and peak memory in MB.
    """
    output = subprocess.check_output([sys.executable, __file__, job, root, str(images), *map(str, more)], text=True)
    taken = json.loads(output.splitlines()[-1])
    print(f"{job}, {images:,} images: {taken['seconds']:.1f} s")
    return taken


def decode_all(root: Path, images: int) -> None:
    with Pool() as pool:
        for _ in pool.imap_unordered(scaled, sorted((root / "test_images").iterdir())[:images], chunksize=8):
            pass
        pool.close()
        pool.join()  # the processor time of workers counts only after they were joined


def scaled(path: Path) -> None:
    with Image.open(path) as image:
        image.draft("RGB", (int(DRAFT * SIDE), int(DRAFT * SIDE)))
        np.asarray(image)


@torch.inference_mode()
def model_alone(root: Path, images: int) -> None:
    bundle = Predictor(root)
    batch = torch.rand(BATCH_SIZE, 3, SIDE, SIDE).to(bundle.device, memory_format=torch.channels_last)
    for _ in range(-(-images // BATCH_SIZE)):
        for member, network in zip(bundle.spec["members"], bundle.networks, strict=True):
            for _ in range(member["views"]):
                logits = network(batch)
    logits.cpu()  # waits for a GPU


def kernel(root: Path, images: int) -> None:
    rows = {"image": [f"{number:04}.jpg" for number in range(images)], "labels": "healthy"}
    pd.DataFrame(rows).to_csv(root / "sample_submission.csv", index=False)
    write_submission(root, root, root / "submission.csv")


def beside_pause(root: Path, images: int, seconds: float) -> None:
    """Run the kernel as with a GPU that needs this many seconds per batch."""

    def forward(bundle: Predictor, squares: dict[int, np.ndarray], *_: object) -> np.ndarray:
        sleep(seconds)
        return np.zeros((len(squares[SIDE]), len(LABELS)), np.float32)

    predict.PREFETCH, Predictor._forward = 1, forward
    kernel(root, images)


JOBS = {"decode": decode_all, "model": model_alone, "kernel": kernel, "beside": beside_pause}


def timed(job: str, root: str, images: str, *more: str) -> dict[str, float]:
    start, before, started = time() - psutil.Process().create_time(), processor(), perf_counter()
    JOBS[job](Path(root), int(images), *map(float, more))
    return {
        "start": start,
        "seconds": perf_counter() - started,
        "processor": processor() - before,
        "megabytes": peak_megabytes(),
    }


def peak_megabytes() -> float:
    """Return the peak memory of this process, on Linux. ru_maxrss would include the memory of the parent process."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def processor() -> float:
    """Return processor seconds of this process and of its child processes that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(timed(*sys.argv[1:])))
    else:
        for ratio, value in measure().items():
            print(f"{ratio:40} {value:.2f}")
