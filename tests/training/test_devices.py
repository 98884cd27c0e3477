"""A run on several devices: two processes on CPUs, each with its part of every batch."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest

from plant_pathology.data.index import ARRAY, open_array
from plant_pathology.data.predictions import read_predictions
from plant_pathology.runs.folder import is_locked
from plant_pathology.training.batches import OrderedBatches, ShuffledBatches
from plant_pathology.training.device import Device
from support.commands import TINY, run_module, start_module
from support.interruptions import assert_same_numbers

TWO = ["trainer.devices=2", "data.batch_size=8"]


def test_the_parts_of_all_devices_are_the_batches_of_one():
    shards = np.repeat(np.arange(5), 7)
    whole = ShuffledBatches(shards, 6, 16, seed=3)
    parts = zip(*(ShuffledBatches(shards, 6, 16, 3, Device(number, 3)) for number in range(3)), strict=True)
    for one, each in zip(whole, parts, strict=True):
        assert np.concatenate([part.samples for part in each]).tolist() == one.samples.tolist()
    for samples in range(1, 14):
        ordered = [list(OrderedBatches(samples, 6, Device(number, 3))) for number in range(3)]
        assert len({len(batches) for batches in ordered}) == 1
        seen = [batch.samples for batches in zip(*ordered, strict=True) for batch in batches if not batch.repeated]
        assert np.concatenate(seen).tolist() == list(range(samples))


LOCKED = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from plant_pathology.runs.folder import training_lock
from plant_pathology.training.device_processes import HeldLock
from plant_pathology.training.processes import PROCESSES

def hold(lock, held):
    held.send(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    with training_lock(Path(sys.argv[1])) as lock:
        ours, theirs = PROCESSES.Pipe()
        PROCESSES.Process(target=hold, args=(HeldLock(lock), theirs)).start()
        print(ours.recv(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_is_locked_until_its_last_process_has_ended(tmp_path):
    (tmp_path / "holds.py").write_text(LOCKED)
    command = [sys.executable, str(tmp_path / "holds.py"), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        child = psutil.Process(int(starter.stdout.readline()))
        assert starter.wait() == -signal.SIGKILL and is_locked(tmp_path / "run")
        child.kill()
        psutil.wait_procs([child])
        while is_locked(tmp_path / "run"):  # nobody reaps it at once
            time.sleep(0.05)


@pytest.mark.slow
def test_two_devices_give_the_metrics_of_one_with_the_doubled_batch(root):
    folds = np.bincount(open_array(root / "data/prepared" / ARRAY)["fold"])
    fold = int(next((number for number, size in enumerate(folds) if size % 16 == 1), 0))
    settings = ["model=test_vit", f"data.fold={fold}", "data.views=2"]
    for name, devices in (("one", ["data.batch_size=16"]), ("two", TWO)):
        done = run_module("train", *TINY, *settings, f"name={name}", *devices, cwd=root)
        assert done.returncode == 0 and done.stdout.count(" epoch 1/2 ") == 1, done.stdout + done.stderr
    one, two = (next(root.glob(f"runs/{name}-*")) for name in ("one", "two"))
    numbers = ["epoch", "train_loss", "val_loss", "val_score", "lr"]
    pd.testing.assert_frame_equal(*(pd.read_csv(run / "metrics.csv")[numbers] for run in (one, two)), rtol=1e-4)
    first, second = (read_predictions(run / "validation.npz") for run in (one, two))
    assert second.images.tolist() == first.images.tolist() and len(set(second.images)) == folds[fold]
    assert (second.true == first.true).all()
    np.testing.assert_allclose(second.outputs, first.outputs, atol=1e-3)
    assert len(list(two.glob("events*"))) == len(list(one.glob("events*"))), "one logger"


@pytest.mark.slow
def test_a_run_whose_device_is_killed_or_that_gets_sigterm_continues_with_the_same_numbers(root):
    """With random numbers of each device, an average of the weights, and layers that have no gradients at first."""
    levers = ["model.ema=0.9", "model.freeze=1", "model.drop_path=0.2", "data.mix.mixup=0.5", "data.batch_size=2"]
    settings = [*TINY, *levers, "trainer.max_epochs=4", "trainer.devices=2", "data.mix.cutmix=0.2"]
    done = run_module("train", *settings, "name=whole", cwd=root)
    assert done.returncode == 0, done.stderr

    def interrupted(checkpoints, interrupt):
        """Interrupt the run when it has written so many more checkpoints; return its exit code and what it said."""
        known = set(root.glob("runs/broken-*/checkpoints/*.ckpt"))
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        running = start_module("train", *settings, "name=broken", cwd=root, **streams)
        seen = set()
        while len(seen) < checkpoints:
            assert running.poll() is None, running.communicate()[0]
            seen |= set(root.glob("runs/broken-*/checkpoints/*.ckpt")) - known
            time.sleep(0.01)
        [folder] = root.glob("runs/broken-*")
        workers = [each for each in psutil.Process(running.pid).children(recursive=True) if not each.children()]
        interrupt(running, [each for each in workers if "lock" in str([file.path for file in each.open_files()])])
        said, _ = running.communicate()
        assert not is_locked(folder) and not any(each.is_running() and each.status() != "zombie" for each in workers)
        return running.returncode, said

    code, said = interrupted(1, lambda running, workers: workers[-1].kill())
    assert code == 1 and "of 2 was ended by SIGKILL" in said and "Traceback" not in said, said
    code, said = interrupted(1, lambda running, workers: running.terminate())
    assert code == 128 + signal.SIGTERM and "continues after" in said and said.count("SIGTERM: saved after") == 1, said
    code, said = interrupted(1, lambda running, workers: [os.kill(each.pid, signal.SIGINT) for each in workers[:1]])
    assert code == 128 + signal.SIGINT and said.count("SIGINT: saved after") == 1, said
    done = run_module("train", *settings, "name=broken", cwd=root)
    assert done.returncode == 0 and "continues after" in done.stdout, done.stderr
    whole, broken = (next(root.glob(f"runs/{name}-*")) for name in ("whole", "broken"))
    assert_same_numbers(whole, broken)


@pytest.mark.slow
def test_runs_of_a_sweep_share_the_cores_and_a_device_s_error_is_the_run_s(root):
    done = run_module("train", "-m", *TINY, *TWO, "model.lr=1e-3,1e-2", "data.fold=0,9", "name=swept", cwd=root)
    assert done.returncode == 1 and "2 of 4 runs failed" in done.stderr and "data.fold=9" in done.stderr, done.stderr
    results = [json.loads(path.read_text()) for path in root.glob("runs/swept-*/result.json")]
    assert len(results) == 2 and all(each["config"]["trainer"]["devices"] == 2 for each in results)
