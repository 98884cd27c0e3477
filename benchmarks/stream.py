"""Compare training directly from S3 with downloading everything first, at 25 MB/s.

    python benchmarks/stream.py

The server is real and has its own process; a proxy limits the bandwidth. Steps of 10 ms simulate a GPU that trains. The
images are the 4,000 of the competition if available, otherwise the embedded sample.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import cv2
import torch
from hydra import compose, initialize_config_dir

from plant_pathology.core.checkout import checkout
from plant_pathology.datastore import open_version
from plant_pathology.store.backend import TRANSFERS
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.data import StoredData

sys.path.insert(0, str(checkout() / "tests"))
from support.stores import BUCKET, S3Process, credentials

LINE, STEP, ROUNDS = 25e6, 0.010, 3  # bytes per second, seconds, repetitions
REAL = checkout().parent / "shared" / "data" / "plant-pathology-2021-fgvc8"


class SlowLine:
    """A TCP proxy that passes at most LINE bytes per second, over all connections."""

    def __init__(self, target: str):
        self.host, self.port = urlsplit(target).hostname, urlsplit(target).port
        self._free_at, started = 0.0, threading.Event()
        self._loop = asyncio.new_event_loop()

        async def serve() -> None:
            server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()

        def run() -> None:
            self._loop.create_task(serve())
            self._loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        started.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours, theirs = await asyncio.open_connection(self.host, self.port)
        await asyncio.gather(self._pump(reader, theirs), self._pump(ours, writer), return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(1 << 16):
            self._free_at = max(self._free_at, time.monotonic()) + len(block) / LINE
            await asyncio.sleep(self._free_at - time.monotonic())
            writer.write(block)
            await writer.drain()
        writer.close()


def overrides(root: Path, url: str, cache: Path) -> list[str]:
    competition = ("plant-pathology-2021-fgvc8", REAL) if REAL.is_dir() else ("sample", root / "data/raw/sample")
    store = [f"store.uri=s3://{BUCKET}/bench", f"store.endpoint_url={url}", f"store.cache={cache}"]
    where = [f"competition={competition[0]}", f"paths.raw={competition[1]}", f"paths.root={root}"]
    return ["machine=gpu", *where, *store]


def stage(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"plant_pathology.{module}", *arguments], check=True, capture_output=True)


def epoch(cfg, first: str) -> tuple[float, float]:
    """Return the seconds to the first batch and of the whole epoch, starting with an empty cache."""
    started = time.perf_counter()
    version = open_version(cfg)
    if first == "download":
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(version.open, version.files))
    augment = Augment(flip=True, rotate=20, crop=0.7, brightness=0.2)
    data = StoredData(version, 0, 32, window=cfg.data.window, workers=0, augment=augment, seed=0)
    data.training.on_cpu = False
    arrived = []
    data.start_at(epoch=0, batches_done=0)
    for _ in data.train_dataloader():
        arrived.append(time.perf_counter() - started)
        time.sleep(STEP)
    return arrived[0], time.perf_counter() - started


def measure() -> dict[str, float]:
    os.environ.update(credentials())
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    times: dict[str, list[tuple[float, float]]] = {"stream": [], "download": []}
    with tempfile.TemporaryDirectory() as scratch, closing(S3Process()) as s3:
        server = s3.url
        root = Path(scratch)
        if not REAL.is_dir():
            stage("sample", "competition=sample", f"paths.root={root}")
        stage("prepare", *overrides(root, server, root))
        stage("datastore", "push", *overrides(root, server, root))
        line = SlowLine(server)
        for number in range(ROUNDS):
            for first, measured in times.items():
                cache = root / f"cache-{first}-{number}"
                with initialize_config_dir(str(checkout() / "conf"), version_base="1.3"):
                    cfg = compose("config", overrides(root, line.url, cache))
                measured.append(epoch(cfg, first))
    (batch, whole), (late, long) = (
        [median(column) for column in zip(*measured, strict=True)] for measured in times.values()
    )
    print(f"streamed:         first batch after {batch:.2f} s, epoch {whole:.2f} s")
    print(f"downloaded first: first batch after {late:.2f} s, epoch {long:.2f} s")
    return {"first_batch_vs_full_download": batch / late, "epoch_vs_full_download": whole / long}


if __name__ == "__main__":
    for name, ratio in measure().items():
        print(f"{ratio:10.3f}  {name}")
