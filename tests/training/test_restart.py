"""A run can be killed at any moment, continues on any machine, and ends with identical numbers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from plant_pathology.runs.folder import read_epochs
from plant_pathology.runs.status import status_of
from support.commands import run_module
from support.interruptions import assert_same_numbers, interrupt, start, wait_for_epochs, wait_for_training

# With every lever that draws at random or keeps something from step to step.
LEVERS = ["model.ema=0.9", "model.freeze=1", "model.smoothing=0.1", "model.loss=focal", "model.drop_path=0.2"]
LEVERS += ["data.mix.mixup=0.4", "data.mix.cutmix=0.4", "data.transforms=[RandomErasing,{RandAugment: {magnitude: 9}}]"]
LEVERS += ["data.grow.start=0.5", "model.layer_decay=0.9", "data.views=1"]
SMALL = ["competition=sample", "machine=cpu", "model=test_resnet", "prepare.image_size=32", *LEVERS]
SHORT = ["trainer.max_epochs=3", "data.batch_size=16", "threads=1"]


@pytest.fixture(scope="module")
def finished(root):
    done = run_module("train", *SMALL, *SHORT, "name=finished", cwd=root)
    assert done.returncode == 0, done.stderr
    return next(root.glob("runs/finished-*"))


def test_the_weights_that_are_kept_are_those_that_were_scored(finished):
    """With a moving average of weights, too, which the network holds only while it is validated."""
    scores = [row["val_score"] for row in read_epochs(finished)]
    assert json.loads((finished / "result.json").read_text())["val_score"] == pytest.approx(max(scores), abs=1e-6)


DIES = """
import os
from plant_pathology.train import main
from plant_pathology.training import run
run.write_result = lambda folder, result: os.kill(os.getpid(), 9)
main()
"""


@pytest.fixture(scope="module")
def dead(root):
    """Train the same run, killed after its last epoch, before result.json is written."""
    command = [sys.executable, "-c", DIES, *SMALL, *SHORT, "name=dead"]
    assert subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL
    return next(root.glob("runs/dead-*"))


@pytest.fixture(scope="module")
def continued(root, dead):
    """Continue the killed run with another number of threads."""
    done = run_module("train", *SMALL, *SHORT, "name=dead", "threads=2", cwd=root)
    assert done.returncode == 0 and "continues after" in done.stdout, done.stderr
    return dead


@pytest.fixture(scope="module")
def undisturbed(root):
    """Train a run without interruption; return its folder, its output, and that of a second process."""
    first = start(root, root / "undisturbed", *SMALL)
    assert wait_for_training(first, root / "undisturbed")
    second, _ = start(root, root / "undisturbed", *SMALL).communicate()
    said, _ = first.communicate()
    assert first.returncode == 0, said
    return next((root / "undisturbed").glob("trial-*")), said, second


@pytest.mark.slow
def test_two_processes_never_train_the_same_run(undisturbed):
    _, said, second = undisturbed
    assert " epoch 1/30" in said and "  loss " not in second
    assert "another process trains this run" in second or "finished before" in second


@pytest.mark.slow
def test_a_run_interrupted_at_random_moments_ends_with_identical_numbers(root, undisturbed):
    seed = int.from_bytes(os.urandom(4))
    assert "finished, identical numbers" in interrupt(root, 3, seed, *SMALL, reference=undisturbed[0])


@pytest.mark.slow
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


def test_a_finished_run_returns_its_result_without_importing_torch(root, finished):
    program = (
        "import sys; from plant_pathology.train import main; main();"
        " assert not {'torch', 'timm', 'pytorch_lightning'} & set(sys.modules), 'imported'"
    )
    command = [sys.executable, "-c", program, *SMALL, *SHORT, "name=finished"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "finished before" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_continued_run_keeps_its_number_of_threads(finished, continued):
    assert json.loads((continued / "run.json").read_text())["threads"] == 1
    assert_same_numbers(finished, continued)
