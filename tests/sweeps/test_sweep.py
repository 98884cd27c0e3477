"""Interrupt, kill, watch, stop and continue sweeps on this machine through the real command line."""

import itertools
import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest

from plant_pathology.core.errors import UserError
from plant_pathology.monitor import continue_, stop
from plant_pathology.runs.sweep_lists import begin_sweep, end_sweep, enter_sweep
from plant_pathology.sweeps.index import SweepIndex, sweep_folders, sweep_results
from support.commands import TINY, config, run_module, start_module
from support.small_runs import finish

pytestmark = pytest.mark.slow  # the runs that they look at are trained first, which takes long

SMALL = ["competition=sample", "machine=cpu", "prepare.image_size=32", "data.batch_size=8", "threads=1"]


def sweep(root, runs, *overrides, lr, epochs):
    grid = ["model=test_resnet", f"model.lr={lr}", f"trainer.max_epochs={epochs}", f"paths.runs={runs}"]
    return run_module("train", "-m", *SMALL, *grid, *overrides, cwd=root)


def started(root, runs, *overrides, epochs=80):
    grid = ["model=test_resnet", "model.lr=1e-3,1e-2", f"trainer.max_epochs={epochs}", f"paths.runs={runs}"]
    arguments = ["-m", *SMALL, *overrides, *grid]
    return start_module("train", *arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_epochs(runs, count, patience=300):
    deadline = time.monotonic() + patience
    while sum(len(pd.read_csv(path)) for path in runs.glob("*/metrics.csv")) < count:
        assert time.monotonic() < deadline, "no run has written enough epochs"
        time.sleep(0.05)


def new_output(runs):
    """Return {run: its output since the last call}."""
    said = {}
    for log in runs.glob("*/log.txt"):
        said[log.parent.name] = log.read_text()
        log.unlink()
    return said


def monitor(verb, runs, *overrides, root):
    return run_module("monitor", verb, *SMALL, f"paths.runs={runs}", *overrides, cwd=root)


def trained(runs):
    """Return {run: epochs in its metrics.csv}."""
    return {path.parent.name: pd.read_csv(path)["epoch"].tolist() for path in runs.glob("*/metrics.csv")}


def test_the_last_sweep_stays_listed_until_a_run_of_the_next_one_starts(tmp_path, capsys):
    for name in ("failed", "over"):
        enter_sweep(tmp_path / name)
    finish(tmp_path / "over", {"val_score": 0.5})
    cfg = config(f"paths.runs={tmp_path}")
    for _ in range(2):
        SweepIndex().on_multirun_start(cfg)
        SweepIndex().on_multirun_end(cfg)
        assert [result["run"] for result in sweep_results(tmp_path)] == ["over"]
        assert "left out, 1 of 2 runs that failed or have not finished: failed\n" in capsys.readouterr().out
        assert [folder.name for folder in sweep_folders(cfg)] == ["failed", "over"]
    number = begin_sweep(tmp_path)
    assert [folder.name for folder in sweep_folders(cfg)] == ["failed", "over"]
    enter_sweep(tmp_path / "new")
    assert [folder.name for folder in sweep_folders(cfg)] == ["new"]
    assert end_sweep(tmp_path, number) == ["new"]


def test_runs_of_an_earlier_version_are_shown_and_not_selected(tmp_path):
    """Their metrics and result have other names."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "run.json").write_text(json.dumps({"config": {"trainer": {"max_epochs": 2}, "competition": {"name": "x"}}}))
    (old / "metrics.csv").write_text("epoch,train_loss,val_f1,seconds,images_per_second\n0,0.5,0.8,2.0,90\n")
    (old / "result.json").write_text('{"run": "old", "f1": 0.8, "stopped": null}')
    (tmp_path / "sweep.json").write_text('{"runs": ["old"]}')
    shown = run_module("monitor", "status", *SMALL, f"paths.runs={tmp_path}", cwd=tmp_path)
    assert shown.returncode == 0 and "old" in shown.stdout and "finished" in shown.stdout, shown.stderr
    with pytest.raises(UserError, match="old: result.json has no checksum: an earlier version"):
        sweep_results(tmp_path)


def test_a_finished_run_is_shown_with_the_score_of_its_result(trained):
    """The scores of its epochs are those of one view of an image, its result's of all views."""
    shown = run_module("monitor", "status", *TINY, cwd=trained, COLUMNS="200").stdout
    for path in trained.glob("runs/*/result.json"):
        (line,) = (line for line in shown.splitlines() if path.parent.name in line)
        assert f" {json.loads(path.read_text())['score']:.4f} " in line, shown


@pytest.fixture(scope="module")
def survivor(root, tmp_path_factory):
    """Interrupt one sweep in every way, start it again each time until it finishes, and record every interruption."""
    runs, known = tmp_path_factory.mktemp("runs"), SimpleNamespace(outputs=[])

    def begin(*overrides):
        done = sum(map(len, trained(runs).values()))
        sweep = started(root, runs, *overrides, epochs=30)
        wait_for_epochs(runs, done + 4)
        return sweep, psutil.Process(sweep.pid).children(recursive=True)

    def wait_for_end(sweep):
        output, _ = sweep.communicate()
        known.outputs.append(new_output(runs))
        return output

    sweep, children = begin()
    for process in [*children, sweep]:
        process.kill()
    wait_for_end(sweep)
    sweep, children = begin()
    sweep.kill()
    sweep.wait()
    _, known.alive = psutil.wait_procs(children, timeout=120)
    wait_for_end(sweep)
    sweep, _ = begin()
    sweep.terminate()
    known.terminated, known.code = wait_for_end(sweep), sweep.returncode
    sweep, children = begin("data.fold=0,9")
    victim, known.victim = in_training(children, runs)
    victim.kill()
    known.failed, known.failed_code = wait_for_end(sweep), sweep.returncode
    sweep = started(root, runs, "data.fold=0", epochs=30)
    known.finished = wait_for_end(sweep)
    assert sweep.returncode == 0, known.finished
    known.epochs = trained(runs)
    return known


def in_training(processes, runs):
    """Return one of the processes that train, and the name of its run."""
    for process in processes:
        with suppress(psutil.Error):
            logs = [Path(file.path) for file in process.open_files() if Path(file.path).name == "log.txt"]
            for folder in [log.parent for log in logs if (log.parent / "metrics.csv").exists()]:
                return process, folder.name
    raise AssertionError("no process trains a run")


def test_a_failed_or_killed_run_does_not_affect_the_others(survivor):
    assert survivor.failed_code == 1
    failures = survivor.failed.partition("error: 3 of 4 runs failed")[2]
    assert failures.count("data.fold=9: plant-pathology:1 has the folds") == 2
    assert f"{survivor.victim}: ended by SIGKILL, perhaps because memory ran out" in failures
    assert survivor.finished.count("finished before") == 1
    assert "continues after" in survivor.outputs[-1][survivor.victim]


def test_after_kills_and_restarts_every_epoch_was_trained_once(survivor):
    assert len(survivor.epochs) == 2 and all(epochs == list(range(30)) for epochs in survivor.epochs.values())
    for run in survivor.epochs:
        shown = sum(said.get(run, "").count("  loss ") for said in survivor.outputs)
        # A run killed between printing an epoch and saving its checkpoint prints this epoch again.
        assert 30 <= shown <= (32 if run == survivor.victim else 31)


def test_no_run_outlives_a_killed_sweep(survivor):
    assert not survivor.alive
    assert any("SIGTERM: saved" in said for said in survivor.outputs[1].values())


def test_on_sigterm_every_run_saves_a_checkpoint_first(survivor):
    assert survivor.code == 143 and "save their checkpoints" in survivor.terminated
    trained = [said for said in survivor.outputs[2].values() if "  loss " in said]
    assert trained and all("SIGTERM: saved" in said for said in trained)


def test_runs_can_be_watched_stopped_and_continued(root, tmp_path):
    running = started(root, tmp_path)
    wait_for_epochs(tmp_path, 4)
    assert monitor("status", tmp_path, root=root).stdout.count("running") == 2
    watching = ["watch", *SMALL, f"paths.runs={tmp_path}", "watch.seconds=0.5"]
    watcher = start_module("monitor", *watching, cwd=root, stdout=subprocess.PIPE)
    table = list(itertools.takewhile(lambda line: not line.startswith("└"), watcher.stdout))
    first = watcher.stdout.readline()
    assert monitor("stop", tmp_path, "run=test_resnet", root=root).stdout.count("stops after the epoch") == 2
    output, _ = running.communicate()
    assert running.returncode == 0 and output.count("stopped, sample_f1") == 2 and "(user request)" in output
    watched, _ = watcher.communicate(timeout=30)
    assert sum("running" in line for line in table) == 2
    assert " epoch " in first and watched.count("stopped") == 2
    before = {name: len(epochs) for name, epochs in trained(tmp_path).items()}
    assert all(json.loads(path.read_text())["stopped"] == "user request" for path in tmp_path.glob("*/result.json"))
    assert sum(before.values()) < 160
    # A stopped run stays stopped when the sweep starts again.
    same = started(root, tmp_path)
    output, _ = same.communicate()
    assert output.count("stopped: user request") == 2
    chosen = min(before)
    assert monitor("continue", tmp_path, f"run={chosen}", root=root).returncode == 0
    output, _ = started(root, tmp_path).communicate()
    after = {name: len(epochs) for name, epochs in trained(tmp_path).items()}
    assert after[chosen] == 80 and {**after, chosen: before[chosen]} == before


def of_sweep(runs, results):
    """Make a sweep of runs {name: result, or None for one that has not ended}."""
    number = begin_sweep(runs)
    for name, result in results.items():
        (runs / name).mkdir()
        (runs / name / "run.json").write_text("{}")
        enter_sweep(runs / name)
        if result is not None:
            finish(runs / name, {"stopped": None} | result)
    end_sweep(runs, number)


def holding(runs, file):
    return sorted(path.parent.name for path in runs.glob(f"*/{file}"))


def test_stop_takes_only_what_runs_in_the_sweep(tmp_path, capsys):
    of_sweep(tmp_path, {"net-old": {}, "net-open": None})
    of_sweep(tmp_path, {"net-a-done": {}, "net-b": None})
    where = f"paths.runs={tmp_path}"
    stop(config("run=net", where))
    assert holding(tmp_path, "stop") == ["net-b"]
    assert "net-a-done: has finished, so it cannot be stopped\nnet-b: stops after" in capsys.readouterr().out
    with pytest.raises(UserError, match="run=net-a: net-a-done has finished"):
        stop(config("run=net-a", where))
    with pytest.raises(UserError, match="run=net-o: no run has this name, .* net-open"):
        stop(config("run=net-o", where))
    stop(config("run=net-open", where))
    assert holding(tmp_path, "stop") == ["net-b", "net-open"]
    (tmp_path / "net-open" / "stop").unlink()
    stop(config("run=net", "select.sweep=1", where))
    assert holding(tmp_path, "stop") == ["net-b", "net-open"]


def test_continue_takes_only_stopped_runs_of_the_sweep(tmp_path):
    asked = {"stopped": "user request"}
    of_sweep(tmp_path, {"net-old": asked})
    of_sweep(tmp_path, {"net-a-done": {}, "net-b": asked})
    where = f"paths.runs={tmp_path}"
    continue_(config("run=net", where))
    assert holding(tmp_path, "continue") == ["net-b"] and holding(tmp_path, "result.json") == ["net-a-done", "net-old"]
    with pytest.raises(UserError, match="run=net-a: net-a-done has trained all its epochs"):
        continue_(config("run=net-a", where))
    continue_(config("run=net-old", where))
    assert holding(tmp_path, "continue") == ["net-b", "net-old"]


def test_a_run_whose_loss_passes_the_limit_stops_with_the_reason_and_the_others_continue(root, tmp_path):
    done = sweep(root, tmp_path, "name=l${stop.divergence}", "stop.divergence=null,0.01", lr="1e-3", epochs=4)
    assert done.returncode == 0, done.stderr
    results = map(json.loads, [path.read_text() for path in tmp_path.glob("*/result.json")])
    [stopped] = [result["stopped"] for result in results if result["stopped"]]
    epochs = {run.partition("-")[0]: len(epochs) for run, epochs in trained(tmp_path).items()}
    assert stopped.startswith("diverged: the training loss is 0.") and epochs == {"l0.01": 1, "lNone": 4}


@pytest.fixture(scope="module")
def bought(root, tmp_path_factory):
    """Train three runs, first with a budget for one, then with enough for all and a hopeless fourth run to prune."""
    runs = tmp_path_factory.mktemp("runs")
    money = ["cost.usd_per_hour=3600", "hydra.launcher.workers=1"]
    little = [*money, "cost.budget_usd=0.001"]
    first = sweep(root, runs, *little, lr="1e-3,2e-3,4e-3", epochs=6)
    costs, spent = monitor("cost", runs, *little, root=root).stdout, sum(map(seconds, runs.glob("*/metrics.csv")))
    much = [*money, "cost.budget_usd=1000", "stop.keep=50", "stop.siblings=3", "stop.after=0.5"]
    # The first learning rate in the list is trained last.
    second = sweep(root, runs, *much, lr="1e-9,1e-3,2e-3,4e-3", epochs=6)
    return SimpleNamespace(runs=runs, first=first, costs=costs, spent=spent, second=second)


def seconds(metrics):
    return pd.read_csv(metrics)["seconds"].sum()


def test_no_run_is_launched_that_could_exceed_the_budget(bought):
    assert bought.first.returncode == 1 and "2 of 3 runs failed" in bought.first.stderr
    assert bought.first.stderr.count("not launched: it could exceed cost.budget_usd=0.001") == 2
    assert f"{bought.spent:.4f}" in bought.costs
    assert bought.second.returncode == 0 and bought.second.stdout.count("finished before") == 1


def test_the_pruning_rule_stops_a_run_that_is_worse_than_its_siblings(bought):
    (pruned,) = [path for path in bought.runs.glob("*1e-09*/result.json")]
    result = json.loads(pruned.read_text())
    assert result["stopped"] == "pruned: not among the best 50 % of siblings after epoch 3" and result["epochs"] == 3
    others = [json.loads(path.read_text()) for path in bought.runs.glob("*/result.json") if path != pruned]
    assert [(each["stopped"], each["epochs"]) for each in others] == [(None, 6)] * 3


@pytest.mark.parametrize(
    "verb, override, expected",
    [
        ("status", "paths.runs=nowhere", "nowhere holds no runs"),
        ("stop", "run=null", "run is not set"),
        ("watch", "nokey=1", "nokey"),
    ],
)
def test_a_wrong_command_is_one_error_line(root, verb, override, expected):
    done = run_module("monitor", verb, *SMALL, override, cwd=root)
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr
