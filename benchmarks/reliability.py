"""Test all guarantees of the datastore and print a table; it takes some minutes.

    python benchmarks/reliability.py [seed]

Uses a folder store and an S3 server (moto) in its own process; the command line for processes that are killed, and a
real proxy for network faults. Stops at the first broken guarantee, with its traceback.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import trials
from support.faults import FAULTS
from support.stores import BucketPlace, FolderPlace, S3Process, credentials


def main(seed: int) -> None:
    os.environ |= credentials()
    s3 = S3Process()
    places = {"folder": FolderPlace, "S3": lambda root: BucketPlace(root, s3)}
    print(f"seed {seed}\n\n| trial | store | seconds | what happened |\n|---|---|---|---|", flush=True)

    def row(trial: str, store: str, run) -> None:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as root:
            outcome = run(Path(root))
        print(f"| {trial} | {store} | {time.monotonic() - start:.0f} | {outcome} |", flush=True)

    try:
        for kind in FAULTS:
            row(f"network: {kind}", "S3", lambda root, kind=kind: trials.meet_faults(root, s3, kind, 3, seed))
        for name, place in places.items():
            row("8 processes push at once", name, lambda root, at=place: trials.push_at_once(at(root), root, 8))
            row("push, rm and gc at once", name, lambda root, at=place: trials.storm(at(root), root, 20, seed))
            # After each trial, all objects are read directly from the store, which takes time over HTTP.
            images = {"folder": 400, "S3": 160}[name]
            row(
                "50 SIGKILLs of push",
                name,
                lambda root, at=place, images=images: trials.kill_pushes(at(root), root, 50, seed, images),
            )
            row("50 SIGKILLs of pull", name, lambda root, at=place: trials.kill_pulls(at(root), root, 50, seed))
    finally:
        s3.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2021)
