"""A sweep on Kaggle's machines, through the real client, against a Kaggle on this machine that runs what is pushed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from plant_pathology.kaggle.sweep.options import KaggleOptions
from plant_pathology.kaggle.sweep.payload import IMAGE_FOR_TRAINING
from plant_pathology.kaggle.sweep.plan import Load, plan_of
from plant_pathology.kaggle.sweep.script import session_script
from plant_pathology.kernel import kaggle_image
from plant_pathology.kernel.sandbox import why_no_namespaces
from plant_pathology.runs.status import WAITING, status_of
from support.commands import TINY, run_module, start_module
from support.handmade import FAST
from support.kaggle_sessions import KaggleSessions, numbers, plan_in
from support.local_kaggle import SECRET, environment

SWEEP = ["model.lr=1e-3,1e-2", "train.folds=2"]
ON_KAGGLE = ["hydra/launcher=kaggle", "hydra.launcher.accelerator=cpu"]
EPOCHS = 4


@pytest.fixture
def kaggle(monkeypatch):
    if reason := why_no_namespaces():
        pytest.skip(reason)
    monkeypatch.setattr(kaggle_image, "IMAGE", (*kaggle_image.IMAGE, *IMAGE_FOR_TRAINING))
    with closing(KaggleSessions(dataset_polls=0, kernel_polls=0)) as local:
        yield local


def sweep(root: Path, kaggle, *overrides: str, expect: int = 0) -> str:
    settings = [f"submit.{each}" for each in FAST]
    arguments = ["-m", *TINY, *ON_KAGGLE, f"trainer.max_epochs={EPOCHS}", *settings, *SWEEP, *overrides]
    done = run_module("train", *arguments, cwd=root, **environment(root, kaggle))
    shown = done.stdout + done.stderr
    assert done.returncode == expect and SECRET not in shown and "Traceback" not in shown, shown
    return shown


@pytest.fixture(scope="module")
def local(pushed, tmp_path_factory) -> Path:
    """Return a folder with the same sweep, trained here."""
    root = Path(shutil.copytree(pushed, tmp_path_factory.mktemp("local"), dirs_exist_ok=True))
    done = run_module("train", "-m", *TINY, f"trainer.max_epochs={EPOCHS}", *SWEEP, cwd=root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.slow
def test_four_runs_in_sessions_of_which_one_is_killed_and_one_cancelled_give_the_same_numbers(
    kaggle, pushed, local, tmp_path
):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))

    def cancelled(log: str) -> bool:
        _, second, *_ = kaggle.sessions.values()
        second.cancelled = f"epoch 2/{EPOCHS}" in log
        return False

    kaggle.until = {0: lambda log: f"epoch 2/{EPOCHS}" in log, 1: cancelled}
    shown = sweep(root, kaggle, "hydra.launcher.sessions=2")
    assert numbers(root) == numbers(local) and len(numbers(root)) == 4, shown
    states = [session.state for session in kaggle.sessions.values()]
    assert states == ["ERROR", "CANCEL_ACKNOWLEDGED", "COMPLETE", "COMPLETE"] and kaggle.most == 2, shown


def winning(folder: Path) -> None:
    """Change what a finished run measured: no run can be better."""
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    score = rows[0].index("val_score")
    lines = [rows[0], *([*row[:score], "1.0", *row[score + 1 :]] for row in rows[1:])]
    (folder / "metrics.csv").write_text("\n".join(map(",".join, lines)) + "\n")


@pytest.mark.slow
def test_a_full_disk_fails_its_run_and_the_next_session_is_pruned_by_a_run_collected_before(
    kaggle, pushed, local, tmp_path
):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))
    one = ["train.folds=1", "model.lr=1e-4", "stop.keep=50", "stop.siblings=1", "stop.after=0"]
    kaggle.disks = {0: 5_500_000}
    shown = sweep(root, kaggle, *one, expect=1)
    assert "No space left on device" in shown, shown
    (failed,) = root.glob("runs/*/failure.txt")
    assert "No space left on device" in failed.read_text() and not list(root.glob("runs/*/result.json"))
    before = next(path.parent for path in local.glob("runs/*/result.json") if "fold1" not in str(path))
    winning(Path(shutil.copytree(before, root / "runs" / before.name)))
    shown = sweep(root, kaggle, *one)
    stopped = json.loads((failed.parent / "result.json").read_text())["stopped"]
    assert stopped == "pruned: not among the best 50 % of siblings after epoch 1", shown
    assert not failed.exists() and len(kaggle.sessions) == 2


@pytest.mark.slow
def test_a_run_is_pruned_by_another_one_of_its_session(kaggle, pushed, tmp_path):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))
    rates = ["train.folds=1", "model.lr=1e-2,1e-9", "stop.keep=50", "stop.siblings=1", "stop.after=0"]
    shown = sweep(root, kaggle, *rates, "hydra.launcher.cards=1")
    stopped = {path.parent.name: json.loads(path.read_text())["stopped"] for path in root.glob("runs/*/result.json")}
    (trained,) = (name for name, why in stopped.items() if why is None)
    (pruned,) = (name for name in stopped if name != trained)
    assert "lr0.01" in trained and len(kaggle.sessions) == 1, shown
    assert stopped[pruned] == "pruned: not among the best 50 % of siblings after epoch 1", shown


# The worker's clock, which has run out as soon as a run has ended its first epoch.
OUT_OF_TIME = """
import sys, threading, time
from pathlib import Path
from plant_pathology.kaggle.sweep import worker

class Clock(threading.Thread):
    def __init__(self, seconds, act, arguments):
        super().__init__(daemon=True)
        assert seconds == 3600
        self.act, self.arguments = act, arguments

    def run(self):
        while not any(len(path.read_text().splitlines()) > 1 for path in Path("session").glob("*/metrics.csv")):
            time.sleep(0.01)
        self.act(*self.arguments)

if __name__ == "__main__":
    if sys.argv[2:]:
        worker.Timer = Clock
    worker.main(sys.argv[1])
"""


@pytest.mark.slow
def test_a_session_whose_time_is_over_ends_at_checkpoints_from_which_the_next_one_continues(pushed, local, tmp_path):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))
    with closing(KaggleSessions(dataset_polls=0, kernel_polls=0, replay=[lambda names: ("ERROR", {})])) as kaggle:
        sweep(root, kaggle, "submit.settle_s=0.1", expect=1)
        (runs,) = (plan_in(versions[0].saved["text"])["runs"] for versions in kaggle.kernels.values())
    plan = {"runs": runs, "cards": 2, "seconds": 3600, "store": str(root / "store"), "code": str(root)}
    (root / "plan.json").write_text(json.dumps(plan | {"runs_folder": str(root / "session")}))
    (root / "worker.py").write_text(OUT_OF_TIME)

    def session(*arguments: str) -> str:
        command = [sys.executable, "worker.py", "plan.json", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "the session's time is over: the runs in progress have saved checkpoints" in session("early")
    assert list(root.glob("session/*/checkpoints/*")) and len(list(root.glob("session/*/result.json"))) < 4
    assert "time is over" not in session()
    shutil.rmtree(root / "runs")
    (root / "session").rename(root / "runs")
    assert numbers(root) == numbers(local)


def replayed(local: Path):
    """Return what two sessions come to: the first ends with one run finished, the other at a checkpoint."""

    def whole(name: str) -> dict[str, bytes]:
        files = (path for path in (local / "runs" / name).rglob("*") if path.is_file() and path.name[0] != ".")
        return {path.relative_to(local).as_posix(): path.read_bytes() for path in files}

    def first(names: list[str]) -> tuple[str, dict[str, bytes]]:
        begun = {file: b for file, b in whole(names[0]).items() if file.endswith(("run.json", "metrics.csv"))}
        return "ERROR", begun | {f"runs/{names[0]}/checkpoints/000000001.ckpt": b"of two epochs"} | whole(names[1])

    def second(names: list[str]) -> tuple[str, dict[str, bytes]]:
        return "COMPLETE", {file: content for name in names for file, content in whole(name).items()}

    return [first, second]


@pytest.mark.slow
def test_a_command_killed_at_any_request_and_typed_again_pushes_nothing_twice(pushed, local, tmp_path):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))
    settings = [*(f"submit.{each}" for each in FAST), "submit.settle_s=0.2", "model.lr=1e-3,1e-2"]
    command = ("train", "-m", *TINY, *ON_KAGGLE, *settings, f"trainer.max_epochs={EPOCHS}")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with closing(KaggleSessions(dataset_polls=0, kernel_polls=0, replay=replayed(local), died=set())) as kaggle:
        code, where = -signal.SIGKILL, ""
        while code == -signal.SIGKILL:
            running = start_module(*command, cwd=root, **streams, **environment(root, kaggle))
            kaggle.victim = running.pid
            where += f"{sorted(kaggle.died)[-1:]} {running.communicate()[0]}"
            code = running.returncode
        assert code == 0 and len(kaggle.died) > 15, where
        assert len(kaggle.sessions) == 2 and len(kaggle.datasets) == 3, where
        assert {len(versions) for versions in kaggle.datasets.values()} == {1}, where
        done = numbers(root)
        assert len(done) == 2 and done.items() <= numbers(local).items(), where
        assert not list(root.glob("runs/*/checkpoints")), where


@pytest.mark.slow
def test_each_refusal_has_a_remedy_and_the_same_command_goes_on_after_it(pushed, local, tmp_path):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))
    overrides = ["train.folds=1", "hydra.launcher.accelerator=NvidiaTeslaT4", "submit.settle_s=0.2"]

    def fail(names: list[str]) -> tuple[str, dict[str, bytes]]:
        return "ERROR", {}

    def complete(names: list[str]) -> tuple[str, dict[str, bytes]]:
        return replayed(local)[1](names)

    with closing(KaggleSessions(dataset_polls=0, replay=[fail, fail, complete])) as kaggle:
        kaggle.gpu_hours = (29.9, 30)
        assert "0.1 are left (29.9 of 30.0 GPU hours used, renewed" in sweep(root, kaggle, *overrides, expect=1)
        assert not kaggle.datasets and not kaggle.kernels
        kaggle.gpu_hours = (1, 30)
        kaggle.fail("SaveKernel", {"error": "Phone verification is required to use accelerators"})
        assert "verify your phone number on" in sweep(root, kaggle, *overrides, expect=1)
        (waiting,) = {status_of(path.parent).state for path in root.glob("runs/*/job.json")}
        assert waiting == WAITING
        kaggle.datasets.clear()
        assert "did not attach dataset tester/sample-data-" in sweep(root, kaggle, *overrides, expect=1)
        kaggle.held = ["tester/notebook", "tester/other"]
        save, refused = kaggle.SaveKernel, []

        def freed_after_two_refusals(asked):
            answer = save(asked)
            refused.append("error" in answer)
            if len(refused) == 2:
                kaggle.held = []
            return answer

        kaggle.SaveKernel = freed_after_two_refusals
        kaggle.no_logs = True
        shown = sweep(root, kaggle, *overrides, expect=1)
        assert "the account's sessions are in use by tester/notebook, tester/other" in shown
        assert "brought no run further (error)" in shown and refused == [True, True, False]

        assert "2 of 2 runs came further" in sweep(root, kaggle, *overrides)
        assert len(kaggle.sessions) == 3 and numbers(root).items() <= numbers(local).items()

        # Another checkout finds the same sessions, and pushes none.
        shutil.rmtree(root / "runs")
        sweep(root, kaggle, *overrides, expect=1)
        sweep(root, kaggle, *overrides, expect=1)
        sweep(root, kaggle, *overrides)
        assert len(kaggle.sessions) == 3 and len(numbers(root)) == 2

        shutil.rmtree(root / "runs")
        for versions in kaggle.kernels.values():
            versions[-1].saved["text"] = "print(1)\n"
        assert "that this sweep did not push: delete it on" in sweep(root, kaggle, *overrides, expect=1)
        (noted,) = root.glob("runs/.kaggle/*/session.json")
        noted.write_text(noted.read_text().replace("tester/", "friend/"))
        noted.with_name("journal.json").write_text(json.dumps({noted.parent.name: {"kernel": 1}}))
        assert "is friend's, but the token is of the account tester" in sweep(root, kaggle, *overrides, expect=1)


def test_the_article_s_nine_runs_take_two_and_a_half_hours_and_a_long_sweep_waits_for_its_turn():
    nine = [Load(f"run{number}", 0.5) for number in range(9)]
    plan = plan_of(nine, KaggleOptions())
    assert str(plan) == "9 runs in 1 session of 2 at once: 2.5 session hours, done after 2.5 hours"
    both = plan_of(nine, KaggleOptions(sessions=2))
    assert len(both.sessions) == 2 and (both.quota_hours, both.wall_hours) == (2.5, 1.5)
    long = plan_of([Load("a", 30.0), *(Load(f"b{number}", 5.0) for number in range(6))], KaggleOptions())
    assert long.sessions[0][0].name == "a" and sum(map(len, long.sessions)) == 7
    assert max(long.hours) <= 11.5 and long.quota_hours >= 30
    # No session is given more than it can do.
    full = plan_of([Load(f"run{number}", 10.0) for number in range(6)], KaggleOptions())
    assert [len(session) for session in full.sessions] == [2, 2, 2] and full.hours == [10, 10, 10]


def test_a_session_without_a_package_or_a_dataset_says_so(tmp_path):
    plan = {"code": "tester/code", "data": "tester/data", "state": None, "imports": ["json", "no_such_module"]}
    script = tmp_path / "session.py"
    script.write_text(session_script(plan | {"runs": [], "cards": 2, "seconds": 1}))
    environment = os.environ | {"KAGGLE_INPUT": str(tmp_path), "KAGGLE_WORKING": str(tmp_path)}

    def error() -> str:
        return subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True).stderr

    assert error().startswith("error: the dataset tester/code is not mounted in")
    (tmp_path / "code").mkdir()  # as Kaggle mounted datasets before 2026
    (tmp_path / "datasets/tester/data").mkdir(parents=True)
    assert error() == "error: Kaggle's image has no no_such_module, which training imports\n"
