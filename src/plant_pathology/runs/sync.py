"""Runs in the datastore: where a run on another machine finds its checkpoint, and its team what it reached.

Every file of runs/<run>/ is an object of that name, replaced whole when it changed. A checkpoint goes up before the
one that it replaces goes away, and result.json last.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from omegaconf import DictConfig

from plant_pathology.core.files import atomic_file
from plant_pathology.runs.run import CHECKPOINTS, METRICS, RESULT, STOP
from plant_pathology.store.backend import Objects
from plant_pathology.store.connect import open_store
from plant_pathology.store.keys import check_file

PREFIX = "runs"


def is_record(file: str) -> bool:
    """What a run tells of itself: all but weights."""
    return not file.endswith(".ckpt")


def is_output(file: str) -> bool:
    """What a run leaves behind: all but the checkpoints to continue from."""
    return not file.startswith(CHECKPOINTS)


def any_file(file: str) -> bool:
    return True


class RunSync:
    """The runs of a folder as objects of a store. Every method raises UserError where the store fails.

    Args:
        runs: the folder.
    """

    def __init__(self, objects: Objects, runs: Path):
        self.objects, self.runs = objects, runs
        self._sent: dict[str, tuple[int, int]] = {}
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._sending: Future | None = None

    def push(self, run: str) -> None:
        """Send what changed, and remove what a run's folder no longer has of checkpoints."""
        self.push_behind(run)
        self._sending.result()

    def push_behind(self, run: str) -> None:
        """As `push`, while training goes on; what failed is raised by the next call."""
        if self._sending:
            self._sending.result()
        self._sending = self._sender.submit(self._push, run)

    def names(self) -> list[str]:
        """All runs in the store."""
        return sorted({key.split("/")[1] for key in self.objects.keys(PREFIX)})

    def pull(self, run: str, wanted: Callable[[str], bool]) -> None:
        """Bring here the files that are `wanted` and of another size here, or not here; no older checkpoints."""
        prefix = f"{PREFIX}/{run}/"
        latest = max((path.name for path in (self.runs / run / CHECKPOINTS).glob("*.ckpt")), default="")
        files = filter(wanted, (key.removeprefix(prefix) for key in self.objects.keys(prefix.rstrip("/"))))
        files = [file for file in files if not file.startswith(CHECKPOINTS) or Path(file).name > latest]
        files.sort(key=_result_last)
        sizes = self.objects.sizes([prefix + file for file in files]) if files else []
        for file, size in zip(files, sizes, strict=True):
            check_file(file)
            path = self.runs / run / file
            if size is None or (path.exists() and path.stat().st_size == size):
                continue
            with atomic_file(path) as work:
                with work.open("wb") as target:
                    self.objects.fetch(prefix + file, target)
                if file == METRICS:
                    # Of a run elsewhere, this is the only sign of life.
                    written = self.objects.modified(prefix + file)
                    os.utime(work, (written, written))

    def pull_all(self, wanted: Callable[[str], bool]) -> None:
        for run in self.names():
            self.pull(run, wanted)

    def has(self, run: str, file: str) -> bool:
        return self.objects.size(f"{PREFIX}/{run}/{file}") is not None

    def replace(self, run: str, file: str, content: bytes) -> None:
        self.objects.replace(f"{PREFIX}/{run}/{file}", content)

    def delete(self, run: str, file: str) -> None:
        self.objects.delete(f"{PREFIX}/{run}/{file}")

    def _push(self, run: str) -> None:
        folder, prefix = self.runs / run, f"{PREFIX}/{run}/"
        paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        files = [file for file in paths if not any(part.startswith(".") for part in file.split("/")) and file != STOP]
        for file in sorted(files, key=_result_last):
            try:
                state = paths[file].stat()
                if self._sent.get(file) == (stamp := (state.st_mtime_ns, state.st_size)):
                    continue
                # The whole file at once: it may be replaced or grow while it is sent.
                content = paths[file].read_bytes()
            except FileNotFoundError:
                continue
            self.objects.replace(prefix + file, content)
            self._sent[file] = stamp
        for key in self.objects.keys(prefix + CHECKPOINTS):
            if key.removeprefix(prefix) not in files:
                self.objects.delete(key)


def sync_of(cfg: DictConfig) -> RunSync | None:
    """The sync that `store.runs` asks for."""
    return RunSync(open_store(cfg).objects, Path(cfg.paths.runs)) if cfg.store.runs else None


def _result_last(file: str) -> tuple[bool, str]:
    return file == RESULT, file
