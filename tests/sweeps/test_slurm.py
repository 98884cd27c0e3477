"""Train runs as Slurm jobs with submitit, whose local executor behaves like the one for Slurm, without a cluster."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from support.commands import PROJECT, TINY, start_module
from support.small_runs import runs, train

SWEEP = ["hydra/launcher=submitit_local", "model.lr=1e-3", "name=job_${data.batch_size}", "trainer.max_epochs=20"]


def open_files(process):
    """Return what a process has open; nothing of one into which only root may look."""
    with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        return [file.path for file in process.open_files()]
    return []


@pytest.fixture(scope="module")
def started(root):
    """Run a sweep of two jobs, one preempted and one failing; return the preempted run's folder and stderr."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra submitit")
    settings = [*TINY, *SWEEP, "data.batch_size=16,0"]
    launcher = start_module("train", "-m", *settings, cwd=root, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list((root / "runs").glob("job_16-*/checkpoints/*.ckpt")):
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    [folder] = runs(root, "job_16")
    processes = psutil.Process(launcher.pid).children(recursive=True)
    [task] = [each for each in processes if str(folder) in str(open_files(each))]
    task.send_signal(signal.SIGUSR2)
    _, said = launcher.communicate()
    assert launcher.returncode == 1
    return folder, said


@pytest.mark.slow
def test_a_preempted_slurm_job_continues_from_its_checkpoint(root, started):
    log = "".join(path.read_text() for path in (root / ".hydra" / ".submitit").glob("*/*.out"))
    assert "continues after" in log and (started[0] / "result.json").exists()


@pytest.mark.slow
def test_a_failed_job_is_listed_and_the_next_start_trains_only_missing_runs(root, started):
    done, said = started
    assert "1 of 2 runs failed" in said and "data.batch_size=0: choose" in said
    before = (done / "result.json").stat().st_mtime_ns
    train(root, "-m", *SWEEP, "data.batch_size=16,8")
    assert (done / "result.json").stat().st_mtime_ns == before
    index = json.loads((root / "runs" / "sweep.json").read_text())["runs"]
    assert index == [done.name, runs(root, "job_8")[0].name]


# hydra_plugins is a namespace package; limited to this repository's folder, it lacks plug-ins that pip installed.
WITHOUT_SUBMITIT = """
import runpy, sys, hydra_plugins
hydra_plugins.__path__ = [sys.argv.pop(1)]
runpy.run_module("plant_pathology.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local"])
def test_without_submitit_the_error_is_one_line_with_the_install_command(tmp_path, launcher):
    settings = [f"hydra/launcher={launcher}", "hydra.launcher.partition=gpu", "hydra.launcher.setup=[a,b]"]
    command = [sys.executable, "-c", WITHOUT_SUBMITIT, str(PROJECT / "src/hydra_plugins"), "-m", *settings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    install = 'pip install -c requirements.lock -e ".[submitit]"'
    assert (done.returncode, done.stderr) == (1, f"error: hydra/launcher={launcher} needs submitit: {install}\n")
