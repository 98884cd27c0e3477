"""A sweep on Kaggle's machines, through the real client, against a Kaggle on this machine that runs what is pushed."""

import json
import shutil
from pathlib import Path

import pytest

from plant_pathology.kaggle.sweep.payload import IMAGE_FOR_TRAINING
from plant_pathology.kernel import kaggle_image
from plant_pathology.kernel.sandbox import why_no_namespaces
from support.commands import TINY, run_module
from support.handmade import FAST
from support.kaggle_sessions import KaggleSessions
from support.local_kaggle import SECRET, environment

SWEEP = ["model.lr=1e-3,1e-2", "train.folds=2"]
ON_KAGGLE = ["hydra/launcher=kaggle", "hydra.launcher.accelerator=null"]
EPOCHS = 6


@pytest.fixture
def kaggle(monkeypatch):
    if reason := why_no_namespaces():
        pytest.skip(reason)
    monkeypatch.setattr(kaggle_image, "IMAGE", (*kaggle_image.IMAGE, *IMAGE_FOR_TRAINING))
    local = KaggleSessions(dataset_polls=0, kernel_polls=0)
    yield local
    local.server.shutdown()
    local.server.server_close()


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


def numbers(root: Path) -> dict[str, dict]:
    """Return what a sweep's runs measured, without times."""
    found = {}
    for path in sorted(root.glob("runs/*/result.json")):
        content = json.loads(path.read_text())
        rows = [line.split(",")[:4] for line in (path.parent / "metrics.csv").read_text().splitlines()]
        weights = content["files"]["best.ckpt"]
        found[path.parent.name] = {"score": content["score"], "rows": rows, "weights": weights}
    return found


def test_a_sweep_of_four_runs_in_two_sessions_of_which_one_is_killed_gives_the_same_numbers(
    kaggle, pushed, local, tmp_path
):
    root = Path(shutil.copytree(pushed, tmp_path / "p"))
    kaggle.until = {0: lambda log: f"epoch 2/{EPOCHS}" in log}
    shown = sweep(root, kaggle, "hydra.launcher.sessions=2")
    assert numbers(root) == numbers(local) and len(numbers(root)) == 4, shown
    states = [session.state for session in kaggle.sessions.values()]
    assert states == ["ERROR", "COMPLETE", "COMPLETE"] and kaggle.most == 2, shown
    print(shown)
