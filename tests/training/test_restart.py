"""A run can be killed at any moment, continues on any machine, and ends with identical numbers."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch

from plant_pathology.runs.status import status_of
from support.commands import run_module
from support.interruptions import assert_same_numbers, interrupt, start, wait_for_epochs, wait_for_training

SMALL = ["competition=sample", "machine=cpu", "model=test_resnet", "prepare.image_size=32"]
SHORT = ["trainer.max_epochs=3", "data.batch_size=16", "threads=1"]


@pytest.fixture(scope="module")
def finished(root):
    done = run_module("train", *SMALL, *SHORT, "name=finished", cwd=root)
    assert done.returncode == 0, done.stderr
    return next(root.glob("runs/finished-*"))


DIES = """
import os
from plant_pathology.core.files import write_json as write
from plant_pathology.train import main
from plant_pathology.training import run
run.write_json = lambda path, content: os.kill(os.getpid(), 9) if path.name == "result.json" else write(path, content)
main()
"""


@pytest.fixture(scope="module")
def dead(root):
    """Train the same run, killed after its last epoch, before result.json is written."""
    command = [sys.executable, "-c", DIES, *SMALL, *SHORT, "name=dead"]
    assert subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL
    return next(root.glob("runs/dead-*"))


def nothing(last):
    """Leave the checkpoint intact."""


def cut(last):
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])


def flip_a_bit(last):
    content = bytearray(last.read_bytes())
    with zipfile.ZipFile(last) as members:
        largest = max(members.infolist(), key=lambda member: member.file_size)
    content[largest.header_offset + 200] ^= 1
    last.write_bytes(content)


def plant_code(last):
    torch.save({"state_dict": Evil(last.parents[1] / "harm")}, last)


class Evil:
    """Create a folder when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_the_planted_code_runs_when_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "harm")))
    assert (tmp_path / "harm").is_dir()


DAMAGES = [nothing, cut, flip_a_bit, plant_code]


@pytest.fixture(scope="module")
def continued(root, dead):
    """Damage the last checkpoint of copies of the killed run, and restart them with another number of threads."""
    copies = {each.__name__: dead.with_name(dead.name.replace("dead", each.__name__)) for each in DAMAGES}
    for damage in DAMAGES:
        shutil.copytree(dead, copies[damage.__name__])
        damage(max(copies[damage.__name__].glob("checkpoints/*.ckpt")))
    grid = ["model.lr=1e-3", f"name={','.join(copies)}", "threads=2"]
    done = run_module("train", "-m", *SMALL, *SHORT, *grid, cwd=root)
    assert done.returncode == 0, done.stderr
    return copies


@pytest.fixture(scope="module")
def undisturbed(root):
    """Train a run without interruption; return its folder, its output, and that of a second process."""
    first = start(root, root / "undisturbed", *SMALL)
    assert wait_for_training(first, root / "undisturbed")
    second, _ = start(root, root / "undisturbed", *SMALL).communicate()
    said, _ = first.communicate()
    assert first.returncode == 0, said
    return next((root / "undisturbed").glob("trial-*")), said, second


def test_two_processes_never_train_the_same_run(undisturbed):
    _, said, second = undisturbed
    assert " epoch 1/30" in said and "  loss " not in second
    assert "another process trains this run" in second or "finished before" in second


def test_a_run_interrupted_at_random_moments_ends_with_identical_numbers(root, undisturbed):
    seed = int.from_bytes(os.urandom(4))
    assert "finished, identical numbers" in interrupt(root, 3, seed, *SMALL, reference=undisturbed[0])


def test_sigterm_saves_within_an_epoch_and_another_machine_continues_from_the_store(root, undisturbed, tmp_path):
    overrides = [*SMALL, "store.runs=true"]
    for machine in ("first", "second"):
        running = start(root, tmp_path / machine, *overrides)
        wait_for_epochs(running, tmp_path / machine, more=2)
        assert "running, on another machine, last news 0:" in seen_by_a_teammate(root, tmp_path / "teammate")
        running.terminate()
        said, _ = running.communicate()
        assert running.returncode == 128 + 15 and "SIGTERM: saved after epoch" in said
        shutil.rmtree(tmp_path / machine)
    assert "interrupted, on another machine, last news 1:00" in seen_by_a_teammate(root, tmp_path / "teammate", hours=1)
    running = start(root, tmp_path / "third", *overrides)
    said, _ = running.communicate()
    assert running.returncode == 0 and "continues after" in said, said
    assert_same_numbers(undisturbed[0], next((tmp_path / "third").glob("trial-*")))
    elsewhere = start(root, tmp_path / "fourth", *overrides)
    said, _ = elsewhere.communicate()
    assert "finished before" in said and next((tmp_path / "fourth").glob("trial-*/result.json"))


def seen_by_a_teammate(root, runs, hours=0):
    done = run_module("monitor", "status", *SMALL, "store.runs=true", f"paths.runs={runs}", cwd=root)
    assert done.returncode == 0, done.stderr
    [folder] = runs.glob("trial-*")
    if hours:
        then = time.time() - 3600 * hours
        os.utime(folder / "metrics.csv", (then, then))
    status = status_of(folder)
    return f"{status.state}, {status.note}"


@pytest.mark.parametrize("damage", ["cut", "flip_a_bit", "plant_code"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(finished, dead, continued, damage):
    run = continued[damage]
    log = (run / "log.txt").read_text()
    before, last = (f"runs/{run.name}/checkpoints/{path.name}" for path in sorted(dead.glob("checkpoints/*.ckpt")))
    assert f"{last} is damaged" in log and f"continues after {before}" in log
    assert not (run / "harm").exists()
    assert_same_numbers(finished, run)


def test_a_finished_run_returns_its_result_without_importing_torch(root, finished):
    program = (
        "import sys; from plant_pathology.train import main; main();"
        " assert not {'torch', 'timm', 'pytorch_lightning'} & set(sys.modules), 'imported'"
    )
    command = [sys.executable, "-c", program, *SMALL, *SHORT, "name=finished"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "finished before" in done.stdout, done.stderr


def test_a_continued_run_keeps_its_number_of_threads(finished, continued):
    assert json.loads((continued["nothing"] / "run.json").read_text())["threads"] == 1
    assert_same_numbers(finished, continued["nothing"])
