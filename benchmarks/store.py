"""Compare the time of a push with uploading the same images as one object per image.

    python benchmarks/store.py [--dvc=PYTHON]

The competition's images, prepared at 256 px, are uploaded to an S3 server (moto, in its own process): as shards by
`push`; then as one object per image by boto3's transfer manager with the same number of connections, and by `dvc push`.
The latter needs dvc-s3, which excludes this project's version of boto3: PYTHON is the interpreter of another
environment that has dvc-s3.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).parents[1]
REAL = PROJECT.parent / "shared" / "data" / "plant-pathology-2021-fgvc8"
sys.path.insert(0, str(PROJECT / "tests"))

from s3transfer.manager import TransferConfig, TransferManager  # noqa: E402

from plant_pathology.data.index import TABLE, read_table  # noqa: E402
from plant_pathology.data.shards import Shards, shard_name  # noqa: E402
from plant_pathology.store.backend import TRANSFERS  # noqa: E402
from support.stores import BUCKET, BucketPlace, S3Process, credentials  # noqa: E402


def measure(dvc: str = sys.executable, repeats: int = 3) -> dict[str, float]:
    """Return how many times faster `push` is than the others; print the seconds of each (best of `repeats`; DVC: one).

    Args:
        dvc: an interpreter that has dvc-s3. Without dvc-s3, a message says that this comparison is left out.
    """
    os.environ |= credentials() | {"AWS_DEFAULT_REGION": "us-east-1"}
    found, servers = {}, [S3Process() for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        prepared, images = prepare(root), root / "dvc" / "images"
        write_images(prepared, images)
        found["images"] = len(list(images.iterdir()))
        pushes, singly = [], []
        # Take turns, so that other load slows both. Each pair has its own server, because a full server is slower.
        for s3 in servers:
            store = BucketPlace(root, s3).store()
            store.refs()  # create the client before timing, as for the other side
            pushes.append(seconds(partial(store.push, "leaves", prepared)))
            singly.append(seconds(partial(upload_singly, s3, images)))
        found |= {"push_s": min(pushes), "boto3_s": min(singly)}
        found["push_again_s"] = seconds(lambda: store.push("leaves", prepared))
        found["pull_s"] = seconds(lambda: store.resolve("leaves").pull(root / "copy"))
        found["push_vs_boto3"] = found["boto3_s"] / found["push_s"]
        if subprocess.run([dvc, "-c", "import dvc_s3"], capture_output=True).returncode:
            print(f"without dvc push: {dvc} has no dvc-s3; name another with --dvc=PYTHON", file=sys.stderr)
        else:
            found["dvc_push_s"] = dvc_push(dvc, root / "dvc", s3.url)
            found["push_vs_dvc"] = found["dvc_push_s"] / found["push_s"]
        for s3 in servers:
            s3.close()
    for name, value in found.items():
        print(f"{name:16}{value:10.2f}")
    return {name: value for name, value in found.items() if "_vs_" in name}


def prepare(root: Path) -> Path:
    """Prepare the competition at 256 px, or the sample if the competition's images are missing."""
    settings = ["competition=plant-pathology-2021-fgvc8", f"paths.raw={REAL}"]
    if not REAL.is_dir():
        print(f"on the sample: {REAL} is missing", file=sys.stderr)
        settings = ["competition=sample"]
        run("-m", "plant_pathology.sample", *settings, f"paths.root={root}", cwd=PROJECT)
    settings += ["prepare.image_size=256", "prepare.encoding=jpeg", "prepare.quality=95", f"paths.root={root}"]
    run("-m", "plant_pathology.prepare", *settings, cwd=PROJECT)
    return root / "data" / "prepared"


def write_images(prepared: Path, folder: Path) -> None:
    """Write the same bytes as one file per image."""
    folder.mkdir(parents=True)
    shards = Shards(prepared.joinpath)
    for name, shard, row in read_table(prepared / TABLE)[["image", "shard", "row"]].itertuples(index=False):
        (folder / name).write_bytes(shards.bytes(shard_name(shard, "jpeg"), row))


def upload_singly(s3: S3Process, images: Path) -> None:
    with TransferManager(s3.client, TransferConfig(max_request_concurrency=TRANSFERS)) as manager:
        futures = [manager.upload(str(image), BUCKET, f"singly/{image.name}") for image in images.iterdir()]
        for future in futures:
            future.result()


def dvc_push(python: str, folder: Path, url: str) -> float:
    run("-m", "dvc", "init", "-q", "--no-scm", cwd=folder, python=python)
    run("-m", "dvc", "add", "-q", "images", cwd=folder, python=python)
    run("-m", "dvc", "remote", "add", "-q", "-d", "s3", f"s3://{BUCKET}/dvc", cwd=folder, python=python)
    run("-m", "dvc", "remote", "modify", "-q", "s3", "endpointurl", url, cwd=folder, python=python)
    return seconds(lambda: run("-m", "dvc", "push", "-q", "-j", str(TRANSFERS), cwd=folder, python=python))


def run(*arguments: str, cwd: Path, python: str = sys.executable) -> None:
    # dvc-s3 fails if AWS_CONFIG_FILE names an unreadable file. DVC must not send usage statistics.
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CONFIG_FILE"}
    environment["DVC_NO_ANALYTICS"] = "true"
    done = subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {(done.stdout + done.stderr)[:2000]}")


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


if __name__ == "__main__":
    python = [argument.removeprefix("--dvc=") for argument in sys.argv[1:] if argument.startswith("--dvc=")]
    measure(*python)
