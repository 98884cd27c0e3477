"""Synchronize run folders with the store, so that another machine can continue a run, and a team can see its results.

Every file of runs/<run>/ is one object with that key, and a changed file replaces the whole object. A new checkpoint is
uploaded before the old one is deleted, and result.json is uploaded and downloaded last.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from omegaconf import DictConfig

from plant_pathology.core.files import atomic_file, visible_files
from plant_pathology.runs.folder import CHECKPOINTS, METRICS, RESULT, STOP
from plant_pathology.store.backend import Backend
from plant_pathology.store.connect import open_store
from plant_pathology.store.keys import check_file

PREFIX = "runs"


def is_record(file: str) -> bool:
    """Select every file except weights (*.ckpt): what status, reports and pruning read."""
    return not file.endswith(".ckpt")


def is_output(file: str) -> bool:
    """Select every file except checkpoints to continue from: a finished run's metrics, predictions and weights."""
    return not file.startswith(CHECKPOINTS)


def any_file(file: str) -> bool:
    """Select every file."""
    return True


class RunSync:
    """Upload and download run folders. Every method raises UserError when the store fails.

    Args:
        backend: of the store.
        runs: the folder that holds the run folders (`paths.runs`).
    """

    def __init__(self, backend: Backend, runs: Path):
        self.backend, self.runs = backend, runs
        self._uploaded: dict[str, tuple[int, int]] = {}  # modification time and size
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._upload: Future[None] | None = None

    def push(self, run: str) -> None:
        """Upload changed files, and delete checkpoints in the store that the run's folder no longer has."""
        self.push_in_background(run).result()

    def push_in_background(self, run: str) -> Future[None]:
        """Start `push` in a thread; wait for the previous one first, and raise its error."""
        if self._upload:
            self._upload.result()
        self._upload = self._uploader.submit(self._push, run)
        return self._upload

    def names(self) -> list[str]:
        """List all runs in the store."""
        return sorted({key.split("/")[1] for key in self.backend.keys(PREFIX)})

    def pull(self, run: str, wanted: Callable[[str], bool]) -> None:
        """Download the `wanted` files that are missing here or have another size; skip checkpoints older than ours."""
        prefix = f"{PREFIX}/{run}/"
        latest = max((path.name for path in (self.runs / run / CHECKPOINTS).glob("*.ckpt")), default="")
        stored = filter(wanted, (key.removeprefix(prefix) for key in self.backend.keys(prefix.rstrip("/"))))
        files = [file for file in stored if not file.startswith(CHECKPOINTS) or Path(file).name > latest]
        files.sort(key=_result_last)
        sizes = self.backend.sizes([prefix + file for file in files]) if files else []
        for file, size in zip(files, sizes, strict=True):
            check_file(file)
            path = self.runs / run / file
            if size is None or (path.exists() and path.stat().st_size == size):
                continue
            with atomic_file(path) as work:
                with work.open("wb") as target:
                    self.backend.fetch(prefix + file, target)
                # The time of the upload is the only sign that a run on another machine is alive.
                if file == METRICS and (written := self.backend.modified(prefix + file)):
                    os.utime(work, (written, written))

    def pull_all(self, wanted: Callable[[str], bool]) -> None:
        """Download the `wanted` files of all runs."""
        for run in self.names():
            self.pull(run, wanted)

    def has(self, run: str, file: str) -> bool:
        return self.backend.size(f"{PREFIX}/{run}/{file}") is not None

    def replace(self, run: str, file: str, content: bytes) -> None:
        self.backend.replace(f"{PREFIX}/{run}/{file}", content)

    def delete(self, run: str, file: str) -> None:
        self.backend.delete(f"{PREFIX}/{run}/{file}")

    def _push(self, run: str) -> None:
        folder, prefix = self.runs / run, f"{PREFIX}/{run}/"
        paths = {path.relative_to(folder).as_posix(): path for path in visible_files(folder)}
        files = paths.keys() - {STOP}
        for file in sorted(files, key=_result_last):
            try:
                state = paths[file].stat()
                if self._uploaded.get(file) == (stamp := (state.st_mtime_ns, state.st_size)):
                    continue
                # Read at once, because the file may be replaced or grow during the upload.
                content = paths[file].read_bytes()
            except FileNotFoundError:
                continue
            self.backend.replace(prefix + file, content)
            self._uploaded[file] = stamp
        for key in self.backend.keys(prefix + CHECKPOINTS):
            if key.removeprefix(prefix) not in files:
                self.backend.delete(key)


def sync_of(cfg: DictConfig) -> RunSync | None:
    """Return the sync with the store; None where `store.runs` is false."""
    return RunSync(open_store(cfg).backend, Path(cfg.paths.runs)) if cfg.store.runs else None


def _result_last(file: str) -> tuple[bool, str]:
    return file == RESULT, file
