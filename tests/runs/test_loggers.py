"""Loggers: train with the real command line, and read the logs back with each tool's own library."""

import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

from support.commands import TINY, start_module
from support.small_runs import runs, train

pytestmark = pytest.mark.slow  # the runs that they look at are trained first, which takes long

KILLED = 16  # epochs of a run that is killed at some moment
TERMINATED = 2  # epochs of a run that is ended by SIGTERM after one, or after each


TERMINATES = """
import os, signal
from plant_pathology.train import main
from plant_pathology.training.checkpoints import ResumeCheckpoints
save = ResumeCheckpoints._save
ResumeCheckpoints._save = lambda *arguments: (save(*arguments), os.kill(os.getpid(), signal.SIGTERM))
main()
"""


def settings(name, epochs):
    """Return overrides for a run of this name, which begins with its logger's."""
    return [f"trainer.max_epochs={epochs}", f"name={name}", f"logger={name.partition('_')[0]}"]


def terminated(root, name, times):
    """Interrupt a run by SIGTERM when it has saved an epoch, before Lightning logs that epoch's loss."""
    command = [sys.executable, "-c", TERMINATES, *TINY, *settings(name, TERMINATED)]
    for epoch in range(1, times + 1):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 128 + signal.SIGTERM, done.stderr
        assert f"SIGTERM: saved after epoch {epoch}\n" in done.stdout
    return runs(root, name)[0]


def killed(root, name, meanwhile):
    """Kill a run after at least one epoch; call `meanwhile(folder)` while it trains."""
    process = start_module("train", *TINY, *settings(name, KILLED), cwd=root)
    deadline = time.monotonic() + 300
    while len(list((root / "runs").glob(f"{name}-*/checkpoints/*.ckpt"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    folder = runs(root, name)[0]
    meanwhile(folder)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert not (folder / "result.json").exists()
    return folder


def continued(root, name, epochs):
    assert "continues after" in train(root, *settings(name, epochs)).stdout


def events(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def seen_while_it_trains(folder):
    """TensorBoard shows every epoch of metrics.csv at once."""
    epochs = len(pd.read_csv(folder / "metrics.csv"))
    assert len(events(folder).Scalars("val_score")) >= epochs


def test_tensorboard_shows_a_running_run_and_no_step_twice_after_a_restart(root):
    folder = killed(root, "tensorboard", seen_while_it_trains)
    max((folder / "checkpoints").glob("*.ckpt")).unlink()
    continued(root, "tensorboard", KILLED)
    seen, result = events(folder), json.loads((folder / "result.json").read_text())
    for tag in ("train_loss", "val_score", "val_loss"):
        steps = [scalar.step for scalar in seen.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
    f1 = [scalar.value for scalar in seen.Scalars("val_score")]
    # The best checkpoint is validated last, so that the last value is the run's.
    assert f1 == pytest.approx([*pd.read_csv(folder / "metrics.csv")["val_score"], result["score"]])


def test_tensorboard_lacks_no_epoch_of_a_run_that_is_terminated_after_each(root):
    folder = terminated(root, "tensorboard_ended", times=TERMINATED)
    continued(root, "tensorboard_ended", TERMINATED)
    assert len(events(folder).Scalars("train_loss")) == TERMINATED


@pytest.fixture(scope="module")
def swept(root):
    """Sweep over all loggers; the packages of two are not installed."""
    every = "logger=csv,tensorboard,mlflow,wandb"
    return train(root, "-m", "name=${logger.name}_curves", every, "model.lr=5e-3", expect=1)


@pytest.fixture(scope="module")
def curves(root, swept):
    """Return {logger: run folder}."""
    return {logger: runs(root, f"{logger}_curves")[0] for logger in ("csv", "tensorboard")}


def test_tensorboard_lists_hyperparameters_and_metric_of_a_run(curves):
    hparams = events(curves["tensorboard"]).PluginTagToContent("hparams")
    settings = parse_session_start_info_plugin_data(hparams["_hparams_/session_start_info"]).hparams
    assert settings["model.lr"].number_value == 5e-3 and settings["model.name"].string_value == "test_resnet"
    assert b"val_score" in hparams["_hparams_/experiment"]
    assert "paths.root" not in settings and "logger.name" not in settings


def test_logger_csv_writes_metrics_csv_alone_and_does_not_change_a_run_s_identity(root, curves):
    folder = curves["csv"]
    assert len(pd.read_csv(folder / "metrics.csv")) == 2
    assert not list(folder.glob("events*")) and not list(folder.glob("lightning_logs"))
    assert "finished before" in train(root, "name=csv_curves", "model.lr=5e-3", "logger=tensorboard").stdout


def test_mlflow_has_one_run_after_a_restart(root, with_loggers):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    folder = terminated(root, "mlflow", times=1)
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    [experiment] = [each for each in client.search_experiments() if each.name == "sample"]
    [before] = client.search_runs([experiment.experiment_id])
    assert before.info.status == "FAILED"
    continued(root, "mlflow", TERMINATED)
    [after] = client.search_runs([experiment.experiment_id])
    assert after.info.run_id == before.info.run_id and after.info.run_name == folder.name
    assert after.info.status == "FINISHED"
    assert after.data.params["model.lr"] == "0.001" and "lr" not in after.data.params
    result = json.loads((folder / "result.json").read_text())
    assert after.data.metrics["val_score"] == pytest.approx(result["score"])
    assert len({each.step for each in client.get_metric_history(after.info.run_id, "train_loss")}) == TERMINATED


def test_wandb_keeps_one_id_after_a_restart_and_sends_no_details_of_the_machine(root, with_loggers):
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb")
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    folder = terminated(root, "wandb", times=1)
    continued(root, "wandb", TERMINATED)
    f1, ids, config = [], set(), {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        store = DataStore()
        store.open_for_scan(str(path))
        while data := store.scan_data():
            record = Record.FromString(data)
            ids |= {record.run.run_id} - {""}
            config |= {each.key: each.value_json for each in (*record.run.config.update, *record.config.update)}
            f1 += [
                json.loads(item.value_json)
                for item in record.history.item
                if "val_score" in (item.key, *item.nested_key)
            ]
    assert ids == {folder.name} and wandb.__version__
    assert f1[-1] == pytest.approx(json.loads((folder / "result.json").read_text())["score"])
    assert len(f1) == TERMINATED + 1 and config["model.lr"] == "0.001"
    assert not list(folder.rglob("wandb-metadata.json"))


def test_a_missing_package_gives_one_error_line_with_the_install_command(swept):
    assert "error: 2 of 4 runs failed" in swept.stderr and "Traceback" not in swept.stderr
    for logger, cause in zip(("mlflow", "wandb"), swept.stderr.splitlines()[-2:], strict=True):
        assert cause.endswith(f'logger={logger} needs a package: pip install -c requirements.lock -e ".[{logger}]"')


def test_a_password_in_a_logger_s_address_is_refused_and_not_written(root):
    done = train(root, "name=leak", "logger=mlflow", "logger.tracking_uri=https://me:pw@host", expect=1)
    assert "logger.tracking_uri holds a password" in done.stderr
    assert not list((root / "runs").glob("leak-*"))


def test_preload_imports_no_logger_and_turns_garbage_collection_on_again(with_loggers):
    # Without W&B: timm imports it wherever it is installed.
    program = (
        "import gc, sys, plant_pathology.training.preload as it; print({'mlflow', 'tensorboard'} & set(sys.modules))"
    )
    program += "; print(gc.isenabled(), gc.get_freeze_count() > 100_000, it.fit.__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\nTrue True plant_pathology.training.fit\n", done.stdout + done.stderr
