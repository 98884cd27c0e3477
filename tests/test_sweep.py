"""A sweep that nothing can stop, through the real command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from conftest import run_module

SMALL = ["competition=sample", "machine=cpu", "prepare.image_size=32", "data.batch_size=8"]


def sweep(root, runs, *overrides, model="test_resnet", lr="1e-3,1e-2", epochs=2):
    grid = [f"model={model}", f"model.lr={lr}", f"trainer.max_epochs={epochs}", f"paths.runs={runs}"]
    return run_module("train", "-m", *SMALL, *grid, *overrides, cwd=root)


def started(root, runs, *overrides, epochs=120):
    command = [sys.executable, "-m", "plant_pathology.train", "-m", *SMALL, *overrides, "model=test_resnet"]
    command += ["model.lr=1e-3,1e-2", f"trainer.max_epochs={epochs}", f"paths.runs={runs}"]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_epochs(runs, count, patience=90):
    deadline = time.monotonic() + patience
    while sum(len(pd.read_csv(path)) for path in runs.glob("*/metrics.csv")) < count:
        assert time.monotonic() < deadline, "nothing trains"
        time.sleep(0.05)


def seen(verb, runs, *overrides, root):
    return run_module("sweep", verb, *SMALL, f"paths.runs={runs}", *overrides, cwd=root)


def trained(runs):
    """{run: epochs in its metrics.csv}."""
    return {path.parent.name: pd.read_csv(path)["epoch"].tolist() for path in runs.glob("*/metrics.csv")}


def test_a_run_that_raises_or_is_killed_does_not_touch_the_others(root, tmp_path):
    running = started(root, tmp_path, "data.fold=0,9", epochs=60)
    wait_for_epochs(tmp_path, 2)
    children = psutil.Process(running.pid).children(recursive=True)
    (victim,) = [child for child in children if str(tmp_path) in str([file.path for file in child.open_files()])][:1]
    log = next(Path(file.path) for file in victim.open_files() if str(tmp_path) in file.path)
    os.kill(victim.pid, signal.SIGKILL)
    said, _ = running.communicate()
    assert running.returncode == 1
    said = said.partition("error: 3 of 4 runs failed")[2]
    assert said.count("data.fold=9: plant-pathology:1 has the folds") == 2
    assert f"{log.parent.name}: ended by SIGKILL, perhaps for lack of memory" in said
    again = started(root, tmp_path, "data.fold=0", epochs=60)
    said, _ = again.communicate()
    assert again.returncode == 0 and said.count("finished before") == 1
    assert "continues after" in log.parent.joinpath("log.txt").read_text()
    assert all(epochs == list(range(60)) for epochs in trained(tmp_path).values())


def test_killed_and_started_again_each_epoch_is_trained_once(root, tmp_path):
    for kill in (1, 2):
        running = started(root, tmp_path, epochs=50)
        wait_for_epochs(tmp_path, 12 * kill)
        for process in [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]:
            process.kill()
        running.communicate()
    running = started(root, tmp_path, epochs=50)
    said, _ = running.communicate()
    assert running.returncode == 0, said
    assert len(trained(tmp_path)) == 2 and all(epochs == list(range(50)) for epochs in trained(tmp_path).values())
    for log in tmp_path.glob("*/log.txt"):
        shown = [line for line in log.read_text().splitlines() if " epoch " in line]
        # What died between an epoch's line and its checkpoint may be told again.
        assert len(shown) <= 52


def test_no_run_outlives_a_sweep_that_is_killed(root, tmp_path):
    running = started(root, tmp_path)
    wait_for_epochs(tmp_path, 2)
    children = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    running.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert any("SIGTERM: saved" in log.read_text() for log in tmp_path.glob("*/log.txt"))


def test_sigterm_lets_every_run_save_first(root, tmp_path):
    running = started(root, tmp_path)
    wait_for_epochs(tmp_path, 2)
    running.terminate()
    said, _ = running.communicate()
    assert running.returncode == 143 and "save their checkpoints" in said
    assert all("SIGTERM: saved" in log.read_text() for log in tmp_path.glob("*/log.txt") if "epoch" in log.read_text())


def test_runs_are_watched_stopped_and_continued(root, tmp_path):
    running = started(root, tmp_path)
    wait_for_epochs(tmp_path, 4)
    assert seen("status", tmp_path, root=root).stdout.count("running") == 2
    watching = [sys.executable, "-m", "plant_pathology.sweep", "watch", *SMALL, f"paths.runs={tmp_path}"]
    watcher = subprocess.Popen([*watching, "watch.seconds=0.5"], cwd=root, stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    assert seen("stop", tmp_path, "run=test_resnet", root=root).stdout.count("stops after the epoch") == 2
    said, _ = running.communicate()
    assert running.returncode == 0 and said.count("stopped, sample-F1") == 2 and "(asked to)" in said
    told, _ = watcher.communicate(timeout=30)
    assert " epoch " in told and told.count("stopped") == 2
    before = {name: len(epochs) for name, epochs in trained(tmp_path).items()}
    assert all(json.loads(path.read_text())["stopped"] == "asked to" for path in tmp_path.glob("*/result.json"))
    assert sum(before.values()) < 240
    # Started again, what is stopped stays so.
    same = started(root, tmp_path)
    said, _ = same.communicate()
    assert said.count("stopped: asked to") == 2
    chosen = min(before)
    assert seen("continue", tmp_path, f"run={chosen}", root=root).returncode == 0
    said, _ = started(root, tmp_path).communicate()
    after = {name: len(epochs) for name, epochs in trained(tmp_path).items()}
    assert after[chosen] == 120 and {**after, chosen: before[chosen]} == before


def test_a_run_that_diverges_stops_and_says_why(root, tmp_path):
    done = sweep(root, tmp_path, "stop.divergence=0.01", lr="1e-3", epochs=3)
    assert done.returncode == 0, done.stderr
    assert "stopped" in done.stdout and "diverged: the training loss is 0." in done.stdout
    assert list(trained(tmp_path).values()) == [[0]]


def test_what_is_not_a_number_is_stopped(root, tmp_path):
    done = sweep(root, tmp_path, "trainer.gradient_clip_val=null", "model.weight_decay=100", lr="100", epochs=9)
    assert "diverged: the training loss is nan" in done.stdout, done.stdout + done.stderr
    assert len(next(iter(trained(tmp_path).values()))) < 9


def test_the_median_rule_stops_a_run_whose_siblings_do_better(root, tmp_path):
    first = sweep(root, tmp_path, lr="1e-3,2e-3,4e-3", epochs=6)
    assert first.returncode == 0, first.stderr
    rule = ["stop.keep=50", "stop.siblings=3", "stop.after=0.5"]
    done = sweep(root, tmp_path, *rule, lr="1e-3,2e-3,4e-3,1e-9", epochs=6)
    assert done.stdout.count("finished before") == 3
    (outdone,) = [path for path in tmp_path.glob("*1e-09*/result.json")]
    result = json.loads(outdone.read_text())
    assert result["stopped"] == "outdone: not among the best 50 % of siblings after epoch 3" and result["epochs"] == 3


def test_the_budget_ends_a_sweep_before_it_is_passed(root, tmp_path):
    money = ["cost.usd_per_hour=3600", "hydra.launcher.workers=1"]
    done = sweep(root, tmp_path, *money, "cost.budget_usd=0.001", lr="1e-3,1e-2,1e-1")
    assert done.returncode == 1 and "2 of 3 runs failed" in done.stderr
    assert done.stderr.count("not launched: it could pass cost.budget_usd=0.001") == 2
    costs = seen("cost", tmp_path, *money, "cost.budget_usd=0.001", root=root).stdout
    spent = sum(sum(pd.read_csv(path)["seconds"]) for path in tmp_path.glob("*/metrics.csv"))
    assert f"{spent:.4f}" in costs
    enough = sweep(root, tmp_path, *money, "cost.budget_usd=1000", lr="1e-3,1e-2,1e-1")
    assert enough.returncode == 0 and enough.stdout.count("finished before") == 1


@pytest.mark.parametrize(
    "verb, override, expected",
    [
        ("status", "paths.runs=nowhere", "nowhere holds no runs"),
        ("stop", "run=null", "run is not set"),
        ("watch", "nokey=1", "nokey"),
    ],
)
def test_a_wrong_command_is_one_error(root, verb, override, expected):
    done = run_module("sweep", verb, *SMALL, override, cwd=root)
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr
