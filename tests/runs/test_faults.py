"""Faults in the folders of runs and in sweeps, each with the outcome."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plant_pathology.runs.finished import verified_result
from plant_pathology.runs.sweep_lists import begin_sweep, end_sweep, enter_sweep
from support.commands import TINY, run_module, start_module
from support.fault_table import Fault, check

WHOLE = "A finished run whose files are not whole"
SWEEPS = "Several sweeps in one folder"
SHOWN = "Looking at runs"
FILES = ("runs/*/*",)
SWEEP = "train -m train.folds=2 model.lr=1e-3,1e-2"


def run_of(folder):
    """Return the folder of the run that `train model.lr=1e-3` trains."""
    return sorted(folder.glob("runs/test_resnet*"))[0]


def overwrite(name, size=4000):
    """Return a fault that overwrites bytes in the middle of a run's file."""

    def make(folder):
        path = run_of(folder) / name
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        for position in range(middle, min(len(content), middle + size)):
            content[position] ^= 1
        path.write_bytes(content)

    return make


def cut(name):
    return lambda folder: (path := run_of(folder) / name).write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(name):
    return lambda folder: (run_of(folder) / name).write_bytes(b"")


def remove(name):
    return lambda folder: (run_of(folder) / name).unlink()


def take_from_another_run(name):
    return lambda folder: shutil.copyfile(sorted(folder.glob("runs/test_resnet*"))[-1] / name, run_of(folder) / name)


def replace_by_folder(name):
    def make(folder):
        (run_of(folder) / name).unlink()
        (run_of(folder) / name).mkdir()

    return make


def later_sweep(folder):
    """Let a later sweep have begun a run."""
    number = begin_sweep(folder / "runs")
    enter_sweep(folder / "runs" / "later")
    end_sweep(folder / "runs", number)


def is_whole_and_kept(*names):
    """The run is finished again, and the damaged files are still there."""

    def also(folder):
        assert verified_result(run_of(folder))
        assert {*names} <= {path.name for path in run_of(folder).iterdir()}

    return also


def others_are_whole(folder):
    assert len([path for path in folder.glob("runs/test_resnet*") if verified_result(path)]) == 4


FAULTS = [
    Fault(WHOLE, done, "select", line, make, start="trained", kept=FILES)
    for done, line, make in (
        ("4,000 bytes of best.ckpt overwritten", "best.ckpt has other bytes than", overwrite("best.ckpt")),
        ("one bit of best.ckpt flipped", "best.ckpt has other bytes than", overwrite("best.ckpt", 1)),
        ("best.ckpt removed", "best.ckpt does not exist", remove("best.ckpt")),
        ("best.ckpt cannot be read", "Is a directory", replace_by_folder("best.ckpt")),
        ("best.ckpt of another run", "best.ckpt has other bytes than", take_from_another_run("best.ckpt")),
        ("validation.npz cut", "validation.npz has other bytes than the run wrote", cut("validation.npz")),
        ("validation.npz empty", "validation.npz is empty", empty("validation.npz")),
        ("metrics.csv of another run", "metrics.csv has other bytes", take_from_another_run("metrics.csv")),
        ("one bit of result.json flipped", "result.json does not match its own checksum", overwrite("result.json", 1)),
        ("result.json empty", "result.json is empty", empty("result.json")),
        ("result.json of another run", "result.json belongs to test_resnet", take_from_another_run("result.json")),
        ("one bit of run.json flipped", "run.json does not match its own checksum", overwrite("run.json", 1)),
    )
] + [
    Fault(WHOLE, "best.ckpt overwritten", "train model.lr=1e-3", "starts again; kept as best.ckpt.damaged",
          overwrite("best.ckpt"), 0, start="trained", also=is_whole_and_kept("best.ckpt.damaged")),
    Fault(WHOLE, "validation.npz removed", SWEEP, "validation.npz does not exist: starts again",
          remove("validation.npz"), 0, start="trained", also=others_are_whole),
    Fault(WHOLE, "run.json empty", SWEEP, "run.json is empty: starts again; kept as run.json.damaged",
          empty("run.json"), 0, start="trained", also=is_whole_and_kept("run.json.damaged", "result.json.damaged")),
    Fault(WHOLE, "best.ckpt cannot be read", "train model.lr=1e-3", "Is a directory", replace_by_folder("best.ckpt"),
          start="trained", kept=FILES),
    Fault(SWEEPS, "a later sweep has begun", "select", "holds no finished run of a sweep", later_sweep,
          start="trained", kept=FILES),
    Fault(SWEEPS, "the same, and the first one is named", "select select.sweep=1",
          "sweep 1 of runs is used; others have other runs: select.sweep=2", later_sweep, 0, start="trained",
          kept=FILES),
    Fault(SWEEPS, "a sweep that there was not", "select select.sweep=7", "runs has no such sweep; it has 1",
          start="trained", kept=FILES),
    Fault(SWEEPS, "one of two runs diverges",
          "train -m model.lr=1e-3,100 model.weight_decay=100 trainer.gradient_clip_val=null",
          "left out, 1 of 2 runs that diverged", code=0),
    Fault(SWEEPS, "all runs diverge", "train -m model.lr=99,100 model.weight_decay=100 trainer.gradient_clip_val=null",
          "error: all 2 runs diverged"),
    Fault(SHOWN, "metrics.csv overwritten", "monitor status", "damaged", overwrite("metrics.csv"), 0, start="trained",
          kept=FILES),
    Fault(SHOWN, "run.json is no JSON", "monitor status", "damaged", cut("run.json"), 0, start="trained", kept=FILES),
    Fault(SHOWN, "a run that is not there", "monitor stop run=nothing", "no run has this name", start="trained",
          kept=FILES),
]  # fmt: skip


@pytest.mark.slow  # most of them need a training
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    check(fault, fault_folder(fault.start), [*TINY, f"paths.raw={raw}"])


def test_what_other_programs_put_among_the_lists_is_no_sweep_and_no_run(tmp_path):
    number = begin_sweep(tmp_path)
    enter_sweep(tmp_path / "resnet18-1")
    for name in ("1 (copy)", f"{number}/.nfs0001", ".DS_Store"):
        (tmp_path / ".sweeps" / name).touch()
    assert end_sweep(tmp_path, number) == ["resnet18-1"] and begin_sweep(tmp_path) == number + 1


@pytest.mark.slow
def test_two_sweeps_at_once_judge_their_own_runs(pushed, tmp_path):
    folder = Path(shutil.copytree(pushed, tmp_path / "f"))
    sweeps = [
        start_module("train", "-m", *TINY, lr, "hydra.launcher.workers=1", cwd=folder, stderr=subprocess.PIPE)
        for lr in ("model.lr=1e-3", "model.lr=2e-3", "model.lr=3e-3")
    ]
    assert [sweep.communicate() and sweep.returncode for sweep in sweeps] == [0, 0, 0]
    lists = [sorted(path.name for path in number.iterdir()) for number in folder.glob("runs/.sweeps/*")]
    assert sorted(len(names) for names in lists) == [1, 1, 1] and len({*sum(lists, [])}) == 3
    last = json.loads((folder / "runs" / "sweep.json").read_text())
    assert last["sweep"] == 3 and last["runs"] == sorted(os.listdir(folder / "runs" / ".sweeps" / "3"))


def cached(cache):
    """Return the files of DVC's cache whose content is not what their name says."""
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    names = {path: path.parent.name + path.name.removesuffix(".dir") for path in files}
    return [path for path in files if hashlib.md5(path.read_bytes()).hexdigest() != names[path]]


@pytest.mark.slow
def test_a_sweep_that_continues_after_dvc_checkout_leaves_dvc_s_cache_alone(trained, raw, tmp_path):
    """Files are then read-only hard links to the cache; the run that was damaged appends to its log, and locks."""
    folder = Path(shutil.copytree(trained, tmp_path / "f"))
    (run_of(folder) / "log.txt").write_text("earlier\n")
    (folder / ".dvcignore").write_text("")
    for command in (["init", "--no-scm", "-q"], ["config", "cache.type", "hardlink"], ["add", "-q", "runs"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True, capture_output=True)
    shutil.rmtree(folder / "runs")
    subprocess.run([sys.executable, "-m", "dvc", "checkout", "-q"], cwd=folder, check=True, capture_output=True)
    log, lock = run_of(folder) / "log.txt", run_of(folder) / ".lock"
    assert log.stat().st_nlink > 1 and not log.stat().st_mode & 0o222 and lock.exists()
    (run_of(folder) / "result.json").unlink()
    settings = ["train.folds=2", "model.lr=1e-3,1e-2", f"paths.raw={raw}"]
    done = run_module("train", "-m", *TINY, *settings, cwd=folder)
    assert done.returncode == 0 and done.stdout.count("finished before") == 3, done.stdout + done.stderr
    assert log.read_text().startswith("earlier\n") and len(log.read_text()) > 20 and log.stat().st_nlink == 1
    others_are_whole(folder)
    assert cached(folder / ".dvc" / "cache" / "files") == []
