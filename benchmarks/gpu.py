"""Measure a machine with a GPU: training, and the kernel's networks; write docs/gpu.md with the card's name.

    python benchmarks/gpu.py

Training: an epoch of a run as `train` trains it, on the embedded sample, and how long it waited for data. Step:
forward, backward and optimizer on one batch that stays on the GPU, as written and compiled by torch. Kernel: the
network of a bundle on batches in memory, in full and in half precision, on one GPU and on all of them.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import timm
import torch

from plant_pathology.inference.predictor import BATCH_SIZE, Predictor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.bundles import LABELS, write_bundle

PAGE = Path("docs/gpu.md")
MODEL, SIDE, BATCH, STEPS, EPOCHS = "resnet50", 256, 64, 50, 4


def measure() -> dict[str, float]:
    """Return ratios; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        print("gpu: not measured, because torch finds no GPU here")
        return {}
    count = torch.cuda.device_count()
    rows, ratios = measure_on([f"cuda:{number}" for number in range(count)], MODEL, SIDE, "gpu")
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(count))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    PAGE.write_text(
        f"# On a GPU\n\nMeasured by `make bench BENCH=gpu`, {MODEL} at {SIDE} px, batches of {BATCH}, with {names} and"
        f" torch {torch.__version__}.\n\n| what | images per second, if nothing else is said |\n|---|---|\n{table}\n",
        encoding="utf-8",
    )
    print(f"{PAGE}:\n{table}")
    return ratios


def measure_on(devices: list[str], model: str, side: int, machine: str) -> tuple[dict[str, str], dict[str, float]]:
    """Return the rows of the table, and ratios.

    Args:
        devices: torch's names.
        model: a timm model.
        side: of the images.
        machine: of conf/machine, for training.
    """
    with tempfile.TemporaryDirectory() as scratch:
        speed, waited = trained(Path(scratch), model, side, machine)
        write_bundle(Path(scratch), model, views=1)
        one, every = Predictor(Path(scratch), devices[:1]), Predictor(Path(scratch), devices)
        full, half = predicting(one, side, False), predicting(one, side, True)
        all_full, all_half = predicting(every, side, False), predicting(every, side, True)
    plain, memory = stepping(devices[0], model, side, lambda network: network)
    try:
        compiled = f"{stepping(devices[0], model, side, torch.compile)[0]:.0f}"
    except RuntimeError as error:  # torch needs a compiler, and a path to its own files without spaces
        compiled = f"not measured: {type(error).__name__}"
    rows = {
        "training, as a run": f"{speed:.0f}",
        "the run: share of the time that it waited for data": f"{waited:.1%}",
        "a training step alone, half precision": f"{plain:.0f}",
        "the step, compiled": compiled,
        "peak memory of the step": f"{memory / 1e9:.1f} GB",
        "the kernel's network, full precision": f"{full:.0f}",
        "the kernel's network, half precision": f"{half:.0f}",
        f"the kernel's network on {len(devices)} devices, full precision": f"{all_full:.0f}",
        f"the kernel's network on {len(devices)} devices, half precision": f"{all_half:.0f}",
    }
    ratios = {
        "half_vs_full_precision": half / full,
        "all_devices_vs_one": all_half / half,
        "run_vs_step": speed / plain,
    }
    return rows, ratios


def trained(folder: Path, model: str, side: int, machine: str) -> tuple[float, float]:
    """Train a run on the embedded sample; return images per second, and the share of time that it waited for data."""
    settings = [f"machine={machine}", f"model={model}", "model.pretrained=false", f"prepare.image_size={side}"]
    settings += ["competition=sample", f"trainer.max_epochs={EPOCHS}", "name=gpu"]
    for stage in (["sample"], ["prepare"], ["datastore", "push"], ["train"]):
        command = [sys.executable, "-m", f"plant_pathology.{stage[0]}", *stage[1:], *settings]
        subprocess.run(command, cwd=folder, check=True)
    (result,) = folder.glob("runs/gpu-*/result.json")
    content = json.loads(result.read_text())
    return content["images_per_second"], content["data_wait"]


def stepping(device: str, model: str, side: int, compiled: Callable) -> tuple[float, float]:
    """Train on one batch again and again; return images per second, and the peak of memory in bytes (0 on a CPU)."""
    network = timm.create_model(model, num_classes=len(LABELS)).to(device, memory_format=torch.channels_last)
    optimizer, kind = torch.optim.AdamW(network.parameters(), fused=True), torch.device(device).type
    scaler, step = torch.amp.GradScaler(kind, enabled=kind == "cuda"), compiled(network)
    images = torch.rand(BATCH, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(BATCH, len(LABELS), device=device).round()

    def once() -> None:
        with torch.autocast(kind, torch.float16):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(step(images), targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    seconds = timed(once, kind)
    return BATCH / seconds, torch.cuda.max_memory_allocated() if kind == "cuda" else 0.0


def predicting(bundle: Predictor, side: int, half: bool) -> float:
    """Predict a batch in memory on each device at once, again and again; return images per second."""
    bundle.half = half
    batch = {side: np.zeros((BATCH_SIZE, side, side, 3), np.uint8)}
    places = [(bundle.device, bundle.networks), *bundle.more_devices]

    def predict(place: tuple[torch.device, list[torch.nn.Module]]) -> np.ndarray:
        return bundle._forward(batch, *place, half)

    with ThreadPoolExecutor(len(places)) as pool:
        seconds = timed(lambda: list(pool.map(predict, places)), "cpu")
    return len(places) * BATCH_SIZE / seconds


def timed(once: Callable[[], object], kind: str) -> float:
    """Return the seconds that a call takes, after some calls that are not counted."""
    wait = torch.cuda.synchronize if kind == "cuda" else lambda: None
    for _ in range(5):
        once()
    wait()
    started = perf_counter()
    for _ in range(STEPS):
        once()
    wait()
    return (perf_counter() - started) / STEPS


if __name__ == "__main__":
    measure()
