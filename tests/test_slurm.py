"""Runs as Slurm jobs, by submitit: its local executor does without a cluster what that of Slurm does."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from conftest import TINY
from small_runs import runs, train

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs pip install .[submitit]")
JOBS = ["-m", "hydra/launcher=submitit_local", "model.lr=1e-3"]


def test_a_job_that_fails_is_named_and_the_second_start_does_only_what_is_missing(root):
    sweep = [*JOBS, "name=job_${data.fold}", "trainer.max_epochs=1"]
    first = train(root, *sweep, "data.fold=0,9", expect=1)
    assert "1 of 2 runs failed" in first.stderr and "data.fold=9" in first.stderr
    [done] = runs(root, "job_0")
    before = (done / "result.json").stat().st_mtime_ns
    train(root, *sweep, "data.fold=0,1")
    assert (done / "result.json").stat().st_mtime_ns == before
    index = json.loads((root / "runs" / "sweep.json").read_text())["runs"]
    assert index == [done.name, runs(root, "job_1")[0].name]


def test_a_job_that_slurm_preempts_goes_on_where_it_was(root):
    sweep = [*JOBS, *TINY, "name=preempted", "trainer.max_epochs=30", "data.fold=0"]
    launcher = subprocess.Popen([sys.executable, "-m", "plant_pathology.train", *sweep], cwd=root)
    deadline = time.monotonic() + 120
    while not list((root / "runs").glob("preempted-*/checkpoints/*.ckpt")):
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    job = max(int(path.name) for path in (root / ".hydra" / ".submitit").glob("[0-9]*"))
    [task] = psutil.Process(job).children()
    task.send_signal(signal.SIGUSR2)
    assert launcher.wait() == 0
    [folder] = runs(root, "preempted")
    log = "".join(path.read_text() for path in (root / ".hydra" / ".submitit" / str(job)).glob("*.out"))
    assert "continues after" in log and (folder / "result.json").exists()
