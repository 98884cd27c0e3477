"""Faults of a run that trains or continues, each with the outcome."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
import torch

from support.commands import TINY, run_module, start_module
from support.fault_table import Fault, check, no_run
from support.refused_calls import needs_refused_calls, refuse

RESUME = "Continuing an interrupted run"
FINITE = "Numbers that are not finite"
FIT = "A batch or network that cannot be trained"
LOGGER = "Loggers"
TRAIN = "train trainer.max_epochs=3"
KEPT = ("runs/*/*.ckpt", "runs/*/checkpoints/*")
NOWHERE = "model.name=hf-hub:nobody/nothing"
WILD = "model.lr=100 model.weight_decay=100 trainer.gradient_clip_val=null"


@pytest.fixture(scope="module")
def interrupted(raw, pushed, tmp_path_factory):
    """Return `pushed` with a run that was stopped after each of its first two epochs, and another run like it."""
    folder = Path(shutil.copytree(pushed, tmp_path_factory.mktemp("interrupted"), dirs_exist_ok=True))
    for lr, epochs in ("0.001", 2), ("0.002", 1):
        settings = [*TINY, "trainer.max_epochs=3", f"model.lr={lr}", f"paths.raw={raw}"]
        # Without its package, this logger ends the run before it trains; then it is stopped after every epoch.
        assert run_module("train", *settings, "logger=wandb", cwd=folder).returncode == 1
        (run,) = folder.glob(f"runs/test_resnet-lr{lr}-*")
        (run / "stop").touch()
        for _ in range(epochs):
            assert run_module("train", *settings, cwd=folder).returncode == 0
            (run / "result.json").unlink()
        (run / "stop").unlink()
    assert len(list(folder.glob("runs/*/checkpoints/*.ckpt"))) == 3
    return folder


def run_of(folder):
    return next(folder.glob("runs/test_resnet-lr0.001-*"))


def failure_says(cause):
    """Return a function that checks the cause that `monitor status` gives for the only run."""

    def check_failure(folder):
        (failure,) = folder.glob("runs/*/failure.txt")
        assert cause in failure.read_text()

    return check_failure


def other_run(folder):
    return next(folder.glob("runs/test_resnet-lr0.002-*"))


def last(folder):
    return max(run_of(folder).glob("checkpoints/*.ckpt"))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as members:
        largest = max(members.infolist(), key=lambda member: member.file_size)
    content[largest.header_offset + 200] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def plant_code(path):
    torch.save({"state_dict": Evil(path.parents[1] / "harm")}, path)


class Evil:
    """Create a folder when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def make_a_weight_nan(path):
    content = torch.load(path, weights_only=True)
    weights = next(iter(content["state_dict"].values()))
    weights[(0,) * weights.ndim] = float("nan")
    torch.save(content, path)


def is_finished(folder):
    """The run has all its epochs, and its files are whole."""
    from plant_pathology.runs.finished import verified_result

    assert verified_result(run_of(folder))["epochs"] == 3


def is_finished_and_kept(*patterns):
    def also(folder):
        is_finished(folder)
        assert all(list(run_of(folder).glob(pattern)) for pattern in patterns), list(run_of(folder).rglob("*"))

    return also


def nothing_ran(folder):
    assert not (run_of(folder) / "harm").exists()


def failed_for_good(folder):
    (run,) = folder.glob("runs/*")
    assert "diverged" in (run / "failure.txt").read_text() and not (run / "result.json").exists()
    assert not list(run.glob("validation.npz"))


FAULTS = [
    Fault(RESUME, "the last checkpoint is cut in half", TRAIN, "is damaged", lambda f: cut(last(f)), 0,
          start="interrupted", also=is_finished_and_kept("checkpoints/*.damaged")),
    Fault(RESUME, "one bit of the last checkpoint flipped", TRAIN, "does not match its checksum",
          lambda f: flip_a_bit(last(f)), 0, start="interrupted", also=is_finished_and_kept("checkpoints/*.damaged")),
    Fault(RESUME, "the last checkpoint is empty", TRAIN, "is damaged", lambda f: last(f).write_bytes(b""), 0,
          start="interrupted", also=is_finished_and_kept("checkpoints/*.damaged")),
    Fault(RESUME, "the last checkpoint holds code", TRAIN, "is whole, but torch", lambda f: plant_code(last(f)),
          start="interrupted", kept=KEPT, also=nothing_ran),
    Fault(RESUME, "the last checkpoint cannot be read", TRAIN, "Is a directory", lambda f: replace_by_folder(last(f)),
          start="interrupted", kept=KEPT),
    Fault(RESUME, "the last checkpoint is another run's, of the same shapes", TRAIN, "is of another run",
          lambda f: shutil.copyfile(max(other_run(f).glob("checkpoints/*")), last(f)), start="interrupted", kept=KEPT),
    Fault(RESUME, "best.ckpt is removed", TRAIN, "best.ckpt does not exist: begins again",
          lambda f: (run_of(f) / "best.ckpt").unlink(), 0, start="interrupted",
          also=is_finished_and_kept("checkpoints/*.damaged")),
    Fault(RESUME, "one bit of best.ckpt flipped", TRAIN, "begins again", lambda f: flip_a_bit(run_of(f) / "best.ckpt"),
          0, start="interrupted", also=is_finished_and_kept("best.ckpt.damaged", "checkpoints/*.damaged")),
    Fault(RESUME, "best.ckpt is another run's", TRAIN, "is of another run",
          lambda f: shutil.copyfile(other_run(f) / "best.ckpt", run_of(f) / "best.ckpt"), start="interrupted",
          kept=KEPT),
    Fault(RESUME, "best.ckpt cannot be read", TRAIN, "Is a directory",
          lambda f: replace_by_folder(run_of(f) / "best.ckpt"), start="interrupted", kept=KEPT),
    Fault(RESUME, "run.json is another run's", TRAIN, "is of another run",
          lambda f: shutil.copyfile(other_run(f) / "run.json", run_of(f) / "run.json"), start="interrupted",
          kept=(*KEPT, "runs/*/run.json")),
    Fault(RESUME, "run.json is empty", TRAIN, "run.json is empty: begins again",
          lambda f: (run_of(f) / "run.json").write_bytes(b""), 0, start="interrupted",
          also=is_finished_and_kept("run.json.damaged", "checkpoints/*.damaged")),
    Fault(FINITE, "a learning rate far too high", f"train {WILD}", "is not finite: lower model.lr=100",
          also=failed_for_good),
    Fault(FINITE, "the same in bfloat16", f"train {WILD} trainer.precision=bf16-mixed",
          "set trainer.precision=32-true, not bf16-mixed", also=failed_for_good),
    Fault(FINITE, "a weight in the last checkpoint is not a number", TRAIN, "is not finite",
          lambda f: make_a_weight_nan(last(f)), start="interrupted"),
    Fault(FIT, "batches of one image that grow", "train data.batch_size=1 data.grow.start=0.1",
          "data.batch_size=1: batch normalization cannot train on one value per channel"),
    Fault(FIT, "a batch of more images than there are", "train data.batch_size=1000",
          "data.batch_size=1000 is more than the"),
    Fault(FIT, "two batches, of two devices, of more images than there are",
          "train data.batch_size=32 trainer.devices=2", "data.batch_size=32 x trainer.devices=2 is more than the"),
    Fault(FIT, "a repository that cannot be had, with weights", f"train {NOWHERE} model.pretrained=true",
          "config.json of nobody/nothing is not in", also=no_run, slow=True),
    Fault(FIT, "a repository that cannot be had, from scratch", f"train {NOWHERE}",
          "config.json of nobody/nothing is not in", also=no_run, slow=True),
    Fault(FIT, "a repository that cannot be had, in a sweep", f"train -m {NOWHERE} sweep.model=test_resnet",
          "config.json of nobody/nothing is not in", also=no_run, slow=True),
    Fault(FIT, "a network that timm does not have", "train model.name=resnet19", "timm has no such model; did you mean",
          also=failure_says("timm has no such model")),
    Fault(FIT, "weights of a run that does not exist", "train model.init_from=resnet18-lr1-0a0a0a0a",
          "model.init_from=resnet18-lr1-0a0a0a0a is no file, and runs/resnet18-lr1-0a0a0a0a no finished run"),
    Fault(FIT, "weights of a run that the store does not have either",
          "train model.init_from=resnet18-lr1-0a0a0a0a store.runs=true", "nor is there one of that name in file://"),
    Fault(FIT, "weights of another network", "train model.init_from=w.ckpt", "holds the weights of another network than",
          lambda f: torch.save({"layer.weight": torch.zeros(1)}, f / "w.ckpt")),
    Fault(FIT, "a file without a weight", "train model.init_from=w.ckpt", "model.init_from=w.ckpt holds no weights",
          lambda f: torch.save({"epoch": 3}, f / "w.ckpt")),
    Fault(FIT, "a text in the place of weights", "train model.init_from=w.ckpt", "model.init_from=w.ckpt cannot be read",
          lambda f: (f / "w.ckpt").write_text("weights")),
    Fault(FIT, "a text in the place of weights as safetensors", "train model.init_from=w.safetensors",
          "model.init_from=w.safetensors cannot be read", lambda f: (f / "w.safetensors").write_text("weights")),
    *(Fault(FIT, "weights on this machine, for runs on others",
            f"train -m hydra/launcher={launcher} model.init_from=w.ckpt", "model.init_from=w.ckpt: the machines of",
            lambda f: torch.save({"layer.weight": torch.zeros(1)}, f / "w.ckpt"))
      for launcher in ("kaggle", "sky hydra.launcher.infra=slurm/c hydra.launcher.allow_uncommitted=true")),
    Fault(LOGGER, "the folder of runs is a file", "train", "Not a directory",
          lambda f: (f / "runs").write_text("")),
]  # fmt: skip


@pytest.mark.slow  # most of them need a training
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    check(fault, fault_folder(fault.start), [*TINY, f"paths.raw={raw}"])


@pytest.mark.slow
def test_a_process_that_loads_images_and_is_killed_is_one_line(pushed, tmp_path):
    folder = Path(shutil.copytree(pushed, tmp_path / "f"))
    settings = [*TINY, "data.workers=1", "trainer.max_epochs=1000"]
    training = start_module("train", *settings, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not list(folder.glob("runs/*/metrics.csv")):
        assert training.poll() is None
        time.sleep(0.05)
    # The first is that of the training images; the other one waits for the next validation.
    min(psutil.Process(training.pid).children(), key=lambda child: child.pid).send_signal(signal.SIGKILL)
    output, _ = training.communicate()
    assert training.returncode == 1 and "Traceback" not in output, output
    assert "error: data.workers=1: a process that loads images was ended" in output


def with_shared_memory(folder, size, *overrides):
    """Train where /dev/shm has that size."""
    command = [sys.executable, "-m", "plant_pathology.train", *TINY, *overrides]
    program = f'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"'
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", program, "sh", *command]
    done = subprocess.run(isolated, cwd=folder, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"needs a namespace to mount in: {done.stderr.strip()}")
    return done


@pytest.mark.slow
def test_too_little_shared_memory_is_one_line_before_training(pushed, tmp_path):
    folder = Path(shutil.copytree(pushed, tmp_path / "f"))
    done = with_shared_memory(folder, "64k", "data.workers=1")
    assert done.returncode == 1 and done.stderr.startswith("error: data.workers=1 takes up to"), done.stderr
    assert "--shm-size" in done.stderr and " epoch 1/" not in done.stdout


@needs_refused_calls
def test_a_disk_without_locks_is_one_line(pushed, tmp_path):
    folder = Path(shutil.copytree(pushed, tmp_path / "f"))
    command = [sys.executable, "-m", "plant_pathology.train", *TINY]
    without_locks = functools.partial(refuse, "flock", errno.ENOLCK)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, preexec_fn=without_locks, timeout=120)
    assert done.returncode == 1 and "this disk has no locks (No locks available)" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_continues_has_the_numbers_of_one_that_was_not_interrupted(interrupted, raw, tmp_path):
    """Where `paths.runs` is relative, as it is by default; also in a session of Slurm, which counts its own tasks."""
    folder = Path(shutil.copytree(interrupted, tmp_path / "f"))
    settings = [*TINY, "trainer.max_epochs=3", f"paths.raw={raw}"]
    for runs, session in (("runs", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}), ("undisturbed", {})):
        done = run_module("train", *settings, f"paths.runs={runs}", cwd=folder, **session)
        assert done.returncode == 0, done.stderr
    (other,) = folder.glob("undisturbed/*")
    one, two = (json.loads((path / "result.json").read_text()) for path in (run_of(folder), other))
    assert one["score"] == two["score"] and one["files"]["validation.npz"] == two["files"]["validation.npz"]
