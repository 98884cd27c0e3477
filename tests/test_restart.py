"""A run can die at any moment, anywhere, and nothing is lost."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from conftest import run_module
from interruptions import interrupt, same_digits, start, wait_for_epochs, wait_for_training
from plant_pathology.status import status_of

SMALL = ["competition=sample", "machine=cpu", "model=test_resnet", "prepare.image_size=32"]
SHORT = ["trainer.max_epochs=3", "data.batch_size=16", "threads=1", "name=short"]


@pytest.fixture(scope="module")
def finished(root):
    done = run_module("train", *SMALL, *SHORT, "paths.runs=finished", cwd=root)
    assert done.returncode == 0, done.stderr
    return next((root / "finished").glob("short-*"))


@pytest.fixture(scope="module")
def dead(root):
    """The same run, dead after its last epoch, before its result."""
    running = subprocess.Popen(
        [sys.executable, "-c", DIES, *SMALL, *SHORT, "paths.runs=dead"], cwd=root, stdout=subprocess.DEVNULL
    )
    assert running.wait() == -signal.SIGKILL
    return next((root / "dead").glob("short-*"))


DIES = """
import os
from plant_pathology import train
train.write_json = lambda path, content: os.kill(os.getpid(), 9) if path.name == "result.json" else write(path, content)
from plant_pathology.stage import write_json as write
train.main()
"""


@pytest.fixture
def broken_off(dead, tmp_path):
    """A copy of the dead run."""
    return Path(shutil.copytree(dead, tmp_path / "runs" / dead.name))


def again(root, folder):
    return run_module("train", *SMALL, *SHORT, f"paths.runs={folder.parent}", cwd=root)


def test_interrupted_at_random_moments_it_ends_with_the_same_digits(root):
    assert "runs finished, same digits" in interrupt(root, 3, int.from_bytes(os.urandom(4)), *SMALL)


def test_sigterm_saves_in_the_midst_of_an_epoch_and_another_machine_goes_on_from_the_store(root, tmp_path):
    overrides = [*SMALL, "store.runs=true"]
    said, _ = start(root, tmp_path / "undisturbed", *SMALL).communicate()
    for machine in ("first", "second"):
        running = start(root, tmp_path / machine, *overrides)
        wait_for_epochs(running, tmp_path / machine, more=2)
        assert "running, elsewhere, heard of 0:" in seen_by_a_teammate(root, tmp_path / "teammate")
        running.terminate()
        said, _ = running.communicate()
        assert running.returncode == 128 + 15 and "SIGTERM: saved after epoch" in said
        shutil.rmtree(tmp_path / machine)
    assert "interrupted, elsewhere, heard of 1:00" in seen_by_a_teammate(root, tmp_path / "teammate", hours=1)
    running = start(root, tmp_path / "third", *overrides)
    said, _ = running.communicate()
    assert running.returncode == 0 and "continues after" in said, said
    same_digits(next((tmp_path / "undisturbed").glob("trial-*")), next((tmp_path / "third").glob("trial-*")))
    elsewhere = start(root, tmp_path / "fourth", *overrides)
    said, _ = elsewhere.communicate()
    assert "finished before" in said and next((tmp_path / "fourth").glob("trial-*/result.json"))


def seen_by_a_teammate(root, runs, hours=0):
    done = run_module("sweep", "status", *SMALL, "store.runs=true", f"paths.runs={runs}", cwd=root)
    assert done.returncode == 0, done.stderr
    [folder] = runs.glob("trial-*")
    if hours:
        then = time.time() - 3600 * hours
        os.utime(folder / "metrics.csv", (then, then))
    status = status_of(folder)
    return f"{status.state}, {status.note}"


@pytest.mark.parametrize("damage", ["cut", "a bit", "code"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so(root, finished, broken_off, damage):
    before, last = sorted((broken_off / "checkpoints").glob("*.ckpt"))
    content = bytearray(last.read_bytes())
    if damage == "cut":
        last.write_bytes(content[: len(content) // 2])
    elif damage == "a bit":
        with zipfile.ZipFile(last) as members:
            largest = max(members.infolist(), key=lambda member: member.file_size)
        content[largest.header_offset + 200] ^= 1
        last.write_bytes(content)
    else:
        torch.save({"state_dict": Evil(broken_off / "harm")}, last)
    done = again(root, broken_off)
    assert done.returncode == 0, done.stderr
    assert f"{last} is damaged" in done.stdout and f"continues after {before}" in done.stdout
    assert not (broken_off / "harm").exists()
    same_digits(finished, broken_off)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_evil_would_do_harm(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "harm")))
    assert (tmp_path / "harm").is_dir()


def test_two_processes_do_not_train_one_run(root, tmp_path):
    first = start(root, tmp_path / "runs", *SMALL)
    assert wait_for_training(first, tmp_path / "runs")
    second = start(root, tmp_path / "runs", *SMALL)
    said, _ = second.communicate()
    told, _ = first.communicate()
    assert first.returncode == 0 and " epoch 1/30" in told and "  loss " not in said
    assert "another process trains this run" in said or "finished before" in said


def test_a_finished_run_answers_without_torch(root, finished):
    program = (
        "import sys; from plant_pathology.train import main; main();"
        " assert not {'torch', 'timm', 'pytorch_lightning'} & set(sys.modules), 'imported'"
    )
    command = [sys.executable, "-c", program, *SMALL, *SHORT, "paths.runs=finished"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "finished before" in done.stdout, done.stderr


def test_a_run_keeps_the_threads_it_began_on(root, broken_off):
    done = run_module("train", *SMALL, *SHORT, "threads=2", f"paths.runs={broken_off.parent}", cwd=root)
    assert done.returncode == 0
    assert json.loads((broken_off / "run.json").read_text())["threads"] == 1
