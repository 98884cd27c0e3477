"""Describe the pipeline's stages as a fault meets them: command, files that it reads and writes, and its result.

`Pipeline` runs all stages once undisturbed and keeps the folder as it was before each, so that a trial can start
anywhere, do harm, run the stage's command, and compare.
"""

import csv
import hashlib
import io
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.commands import TINY, start_module


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        command: as typed after `python -m plant_pathology.`.
        writes: patterns of the files that it writes; they hold its result.
        reads: pattern by kind of file that it reads, all of which can be verified.
        small: settings that put what it writes below the folder `small`.
        changes: folders and files in which it may change anything.
        start: "before" if it meets damaged files without its results, "after" with them.
    """

    name: str
    command: tuple[str, ...]
    writes: tuple[str, ...]
    reads: Mapping[str, str] = field(default_factory=dict)
    small: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    start: str = "before"


LONGEST_S = 1800  # of a command, on a machine that is busy with other things
SWEEP = ("-m", "model.lr=1e-3,1e-2")
RUNS = ("runs/*/best.ckpt", "runs/*/validation.npz", "runs/*/metrics.csv", "runs/*/result.json")
# Files of a finished sweep that others read.
FINISHED_RUNS = {
    "run.json": "runs/*/run.json",
    "result.json": "runs/*/result.json",
    "metrics.csv": "runs/*/metrics.csv",
    "best.ckpt": "runs/*/best.ckpt",
    "validation.npz": "runs/*/validation.npz",
    "sweep.json": "runs/sweep.json",
}

STAGES = [
    Stage(
        *("prepare", ("prepare",), ("data/prepared/**/*",)),
        # Who draws a picture writes no checksum: a flipped bit in data/raw is another picture.
        reads={"decoded.sqlite": "data/decoded.sqlite"},
        small=("paths.prepared=small/prepared", "paths.decoded=small/decoded.sqlite", "paths.reports=small/reports"),
        start="after",
        changes=("data/prepared/**/*", "data/decoded.sqlite*", "reports/data/**/*"),
    ),
    Stage(
        *("push", ("datastore", "push"), ("datastore.json", "store/objects/*", "store/versions/**/*")),
        reads={
            "prepared manifest.json": "data/prepared/manifest.json",
            "prepared index.csv": "data/prepared/index.csv",
            "prepared index.npy": "data/prepared/index.npy",
            "prepared shard": "data/prepared/images-*",
            "SHA256SUMS": "data/prepared/SHA256SUMS",
        },
        small=("store.uri=file://small/store", "paths.pointer=small/datastore.json"),
        changes=("datastore.json", "store/claims/*", "store/incoming/*"),
    ),
    Stage(
        *("push again", ("datastore", "push"), ("datastore.json", "store/objects/*", "store/versions/**/*")),
        reads={"version's manifest": "store/versions/*/1.json"},
        start="after",
        changes=("datastore.json", "store/claims/*", "store/incoming/*"),
    ),
    Stage(
        *("train", ("train", *SWEEP), RUNS),
        reads={
            "datastore.json": "datastore.json",
            "version's manifest": "store/versions/*/1.json",
            "stored file": "store/objects/*",
        },
        small=("paths.runs=small/runs",),
        changes=("runs/**/*", "runs/**/.*", ".hydra/multirun.yaml"),
    ),
    Stage(
        *("train again", ("train", *SWEEP), RUNS),
        reads=FINISHED_RUNS,
        start="after",
        changes=("runs/**/*", "runs/**/.*", ".hydra/multirun.yaml"),
    ),
    Stage(
        *("select", ("select",), ("models/**/*", "reports/*")),
        reads=FINISHED_RUNS,
        small=("paths.models=small/models", "paths.reports=small/reports"),
        changes=("models/**/*", "reports/*"),
        start="after",
    ),
    Stage(
        *("package", ("package", "package.owner=tester"), ("kernels/**/*",)),
        reads={"bundle.json": "models/best/bundle.json", "weights": "models/best/**/*.safetensors"},
        small=("paths.kernels=small/kernels",),
        changes=("kernels/**/*",),
        start="after",
    ),
    Stage(
        *("rehearse", ("rehearse", "rehearse.images=100"), ("reports/rehearsal.json", "reports/rehearsal/*.csv")),
        reads={
            "packaged bundle.json": "kernels/dataset/**/bundle.json",
            "packaged weights": "kernels/dataset/**/*.safetensors",
            "wheel": "kernels/dataset/**/*.whl",
            "notebook": "kernels/submission/*.ipynb",
            "kernel-metadata.json": "kernels/submission/kernel-metadata.json",
            "dataset-metadata.json": "kernels/dataset/dataset-metadata.json",
            "bundle.json": "models/best/bundle.json",
        },
        changes=("reports/rehearsal*", "reports/rehearsal/**/*"),
        start="after",
    ),
    Stage(
        *("report", ("report",), ("reports/index.html", "reports/relabel.csv", "reports/figures/*")),
        reads={
            "leaderboard.csv": "reports/leaderboard.csv",
            "metrics.json": "reports/metrics.json",
            "predictions.npz": "reports/predictions.npz",
            "predictions.csv": "reports/predictions.csv",
            "rehearsal.json": "reports/rehearsal.json",
            "run's metrics.csv": "runs/*/metrics.csv",
            "stored file": "store/objects/*",
        },
        changes=("reports/index.html", "reports/relabel.csv", "reports/figures/*"),
        start="after",
    ),
]
BY_NAME = {stage.name: stage for stage in STAGES}
# Times, names by chance, measurements of the machine, and hashes over them.
VARIES = {"seconds", "train_seconds", "images_per_second", "data_wait", "created", "push", "commit", "uncommitted"}
VARIES |= {"peak_memory_mb", "disk_mb", "estimate", "isolation_reason", "seal", "hashes"}


class Pipeline:
    """Folders of a pipeline that nothing disturbed.

    Args:
        folder: an empty folder.

    Attributes:
        raw: the competition's files.
        results: what `result_of` returns of each stage, by name.
        seconds: that each took.
    """

    _starting = threading.Lock()  # `support.preloaded` starts one command at a time

    def __init__(self, folder: Path):
        self.folder, self.raw = folder, folder / "raw" / "sample"
        self.results: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}

    def run_undisturbed(self, last: Stage) -> None:
        """Run all stages up to this one."""
        done = self.run_stage(Stage("sample", ("sample", f"paths.raw={self.raw}"), ()), self.folder)
        assert done.returncode == 0, done.stderr
        work = self.folder / "work"
        work.mkdir()
        for stage in STAGES[: STAGES.index(last) + 1]:
            shutil.copytree(work, self.kept(stage, "before"))
            began = time.monotonic()
            done = self.run_stage(stage, work)
            self.seconds[stage.name] = time.monotonic() - began
            assert done.returncode == 0, f"{stage.name}: {done.stderr}"
            self.results[stage.name] = result_of(stage, work)
            assert self.results[stage.name], stage.name
            shutil.copytree(work, self.kept(stage, "after"))

    def start(self, stage: Stage, folder: Path, *overrides: str):
        """Start a stage's command in a folder."""
        module, *arguments = stage.command
        settings = [*TINY, f"paths.raw={self.raw}", *overrides]
        flags = [each for each in arguments if "=" not in each]
        with self._starting:
            return start_module(
                *(module, *flags, *settings, *(each for each in arguments if "=" in each)),
                **dict(cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE),
            )

    def run_stage(self, stage: Stage, folder: Path, *overrides: str) -> subprocess.CompletedProcess:
        running = self.start(stage, folder, *overrides)
        out, err = running.communicate(timeout=LONGEST_S)
        return subprocess.CompletedProcess(stage.command, running.returncode, out, err)

    def copy(self, stage: Stage, target: Path, state: str | None = None) -> None:
        """Copy the folder as it was before or after a stage."""
        shutil.copytree(self.kept(stage, state or stage.start), target)

    def kept(self, stage: Stage, state: str) -> Path:
        """Return the folder as it was before or after a stage, which must not be changed."""
        return self.folder / f"{state} {stage.name}"


def result_of(stage: Stage, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of what each file of a stage's result says, without times, by path."""
    files = {path for pattern in stage.writes for path in folder.glob(pattern) if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(without_times(path)).hexdigest()
        for path in sorted(files)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def without_times(path: Path) -> bytes:
    """Return a file's bytes without values that differ between two equal runs."""
    content = path.read_bytes()
    if path.suffix == ".json":
        # What result.json vouches for has times in it, and is compared itself.
        varies = VARIES | ({"files"} if path.name == "result.json" else set())
        return json.dumps(_without(json.loads(content), varies), sort_keys=True).encode()
    if path.name == "metrics.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        return repr([[each for each in row.items() if each[0] not in VARIES] for row in rows]).encode()
    return content


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(each, names) for key, each in value.items() if key not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value


def contents(folder: Path, without: Iterable[str] = ()) -> dict[str, str]:
    """Return the SHA-256 of all files below a folder by path, without those that match a pattern."""
    left_out = {path for pattern in without for path in folder.glob(pattern)}
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path not in left_out
    }
