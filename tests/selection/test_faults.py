"""Faults that select meets, each with the outcome."""

import json
import shutil
import signal
import time
from dataclasses import replace
from subprocess import DEVNULL, PIPE

import numpy as np
import pandas as pd
import pytest
import torch

from plant_pathology.core.sealed import read_sealed, write_sealed
from plant_pathology.data.predictions import read_predictions, write_predictions
from plant_pathology.runs.finished import DamagedRunError, verified_result, write_result
from plant_pathology.runs.folder import BEST, PREDICTIONS, RESULT, RUN
from plant_pathology.selection.trained_runs import read_run
from support.commands import TINY, on_a_small_disk, run_module, start_module
from support.damage import cut, emptied, flipped, missing, overwritten
from support.fault_table import Fault, check, hashes
from support.locks import locked, release

PURPOSE = "What the runs were made for differs from what is selected"
DAMAGED = "A file that select trusts is damaged"
WRONG = "Files that are whole, but do not fit each other"
INFINITE = "Numbers that are not finite"
LEFT_OUT = "The choice and the leaderboard follow one rule"
LAST = "The last training, on all images"
TWICE = "Two commands at once"
DISK = "The disk"
RUNS = "runs/*lr*"
KEPT = ["runs/*/*"]
LABELS = "complex,frog_eye_leaf_spot,healthy,powdery_mildew,rust,scab"
REVERSED = ",".join(reversed(LABELS.split(",")))


def runs_of(folder):
    """Return the runs' folders, the highest score first."""
    return sorted(folder.glob(RUNS), key=lambda run: -read_sealed(run / RESULT)["val_score"])


def vouch(run, **changed):
    """Write result.json and run.json again, so that all checksums fit."""
    for name in (RESULT, RUN):
        content = read_sealed(run / name)
        if "config" in changed:
            content["config"]["competition"] |= changed["config"]
        content["config"]["data"]["fold"] = changed.get("fold", content["config"]["data"]["fold"])
        content |= {key: value for key, value in changed.items() if key not in ("config", "fold")}
        if name == RUN:
            write_sealed(run / RUN, content)
        else:
            content.pop("files")
            write_result(run, content)


def said(runs, **changed):
    """Return a fault: some runs say that they were made for something else."""
    return lambda folder: [vouch(run, **changed) for run in runs_of(folder)[runs]]


def predicted(change, runs=slice(-1, None)):
    """Return a fault: what runs predicted is changed, and all checksums fit."""

    def make(folder):
        for run in runs_of(folder)[runs]:
            write_predictions(run / PREDICTIONS, change(read_predictions(run / PREDICTIONS)))
            vouch(run)

    return make


def infinite(stored):
    stored.outputs[0, 0] = np.nan
    return stored


def weights(change):
    """Return a fault: all runs' weights are changed, and all checksums fit."""

    def make(folder):
        for run in runs_of(folder):
            checkpoint = torch.load(run / BEST, weights_only=True)
            change(checkpoint["state_dict"])
            torch.save(checkpoint, run / BEST)
            vouch(run)

    return make


def fill(state, value):
    state["network.fc.weight"].fill_(value)


def swap_labels(state):
    """Let the network give its outputs in another order."""
    for name in ("network.fc.weight", "network.fc.bias"):
        state[name].copy_(state[name].flip(0))


def swap_folds(folder):
    """Let two networks of one candidate change their places: each predicts images that it was trained on."""
    best, *others = runs_of(folder)
    other = next(run for run in others if run.name.split("-")[1] == best.name.split("-")[1])
    content = (best / BEST).read_bytes()
    (best / BEST).write_bytes((other / BEST).read_bytes())
    (other / BEST).write_bytes(content)
    vouch(best)
    vouch(other)


def on_all(runs, **changed):
    """Return a fault: some runs say that they were trained on the images of all folds."""

    def make(folder):
        for run in runs_of(folder)[runs]:
            vouch(run, fold="all", score=None, val_score=None, **changed)

    return make


def push_again(folder):
    """Push other data after the sweep."""
    for module, *verb in (["prepare"], ["datastore", "push"]):
        settings = (*TINY, "prepare.folds=4", f"paths.raw={RAW[0]}")
        assert run_module(module, *verb, *settings, cwd=folder).returncode == 0


def the_best_lacks_a_fold(folder):
    shutil.rmtree(runs_of(folder)[0])


def board_says_why(folder):
    board = pd.read_csv(folder / "reports/leaderboard.csv", keep_default_na=False)
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert board["run"][0] == metrics["run"] and board["left_out"][0] == ""
    assert "images), not folds 0 and 1 (" in board["left_out"][1] and len(board) == 2


def no_nan(folder):
    for path in (*folder.glob("reports/*.json"), folder / "models/best/bundle.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)


def no_bundle(folder):
    assert not (folder / "models/best").exists() and not list((folder / "models").glob(".best-*"))


RAW = []

FAULTS = [
    Fault("Nothing to select from", "no sweep", "select", "holds no finished run of a sweep"),
    *(
        Fault(PURPOSE, done, f"select {override}".strip(), line, make, start="trained", kept=KEPT, also=no_bundle)
        for done, override, line, make in (
            ("the labels in the competition's file are in another order", f"competition.target.labels=[{REVERSED}]",
             "was made for competition.target.labels[0]=complex, which is scab today", lambda folder: None),
            ("the competition's file has a label more", f"competition.target.labels=[{LABELS},mould]",
             "was made for competition.target.labels[6]=nothing, which is mould today", lambda folder: None),
            ("another metric", "competition.metric=micro_f1",
             "was made for competition.metric=sample_f1, which is micro_f1 today", lambda folder: None),
            ("another competition with the same labels", "competition.name=another",
             "was made for competition.name=sample, which is another today", lambda folder: None),
            ("another kind of target", "competition.target.kind=one competition.submit.as=label",
             "was made for competition.target.kind=several, which is one today", lambda folder: None),
            ("all runs are of another metric", "", "was made for competition.metric=accuracy",
             said(slice(None), config={"metric": "accuracy"})),
            ("one run has its labels in another order", "", "were trained with other labels, so their scores do not",
             predicted(lambda stored: stored.labels.reverse() or stored)),
            ("one run is of another version of the data", "", "were trained with plant-pathology:1",
             said(slice(1, 2), data="0" * 64, data_ref="plant-pathology:2")),
            ("one run is of other code", "", "were trained with other code, so their scores do not compare",
             said(slice(2, 3), code="0" * 64)),
            ("all runs are of other code than today's", "", "was trained by other code than today's",
             said(slice(None), code="0" * 64)),
            ("other data was pushed since", "", "datastore.json names plant-pathology:2 (", push_again),
            ("data.ref names another version", "data.ref=plant-pathology:2", "but data.ref names plant-pathology:2",
             push_again),
            ("the store with the images is gone", "", "plant-pathology:1",
             lambda folder: shutil.rmtree(folder / "store")),
        )
    ),
    Fault(PURPOSE, "other data was pushed since, and data.ref names the runs'", "select data.ref=plant-pathology:1",
          "is the best of 2 candidates", push_again, code=0, start="trained", kept=KEPT),
    *(
        Fault(DAMAGED, done, "select", line, make, start="trained", kept=KEPT, also=no_bundle)
        for done, line, make in (
            ("4,000 bytes of best.ckpt overwritten", "best.ckpt has other bytes than the run wrote",
             overwritten(f"{RUNS}/best.ckpt", b"\0" * 4000)),
            ("best.ckpt: one bit flipped", "best.ckpt has other bytes than the run", flipped(f"{RUNS}/best.ckpt")),
            ("best.ckpt is missing", "best.ckpt does not exist", missing(f"{RUNS}/best.ckpt")),
            ("best.ckpt is empty", "best.ckpt is empty", emptied(f"{RUNS}/best.ckpt")),
            ("validation.npz: cut in half", "validation.npz has other bytes", cut(f"{RUNS}/validation.npz")),
            ("validation.npz is missing", "validation.npz does not exist", missing(f"{RUNS}/validation.npz")),
            ("result.json: one bit flipped", "result.json does not match its own", flipped(f"{RUNS}/result.json", 0.7)),
            ("run.json is empty", "run.json is empty", emptied(f"{RUNS}/run.json")),
            ("metrics.csv: one bit flipped", "metrics.csv has other bytes", flipped(f"{RUNS}/metrics.csv")),
            ("every object of the datastore: one bit flipped", "plant-pathology:1",
             lambda folder: [flipped(str(path.relative_to(folder)))(folder)
                             for path in folder.glob("store/objects/**/*") if path.is_file()]),
        )
    ),
    *(
        Fault(WRONG, done, "select", line, make, start="trained", kept=KEPT, also=no_bundle)
        for done, line, make in (
            ("the weights are another network's", "its packed network predicts other outputs than were scored",
             weights(lambda state: state["network.fc.weight"].add_(0.5))),
            ("the network's outputs are in another order", "its packed network predicts other outputs", 
             weights(swap_labels)),
            ("the networks of two folds are exchanged", "its packed network predicts other outputs", swap_folds),
            ("the truth is another", "validation.npz gives sample_f1",
             predicted(lambda stored: replace(stored, true=~stored.true))),
        )
    ),
    Fault(INFINITE, "one probability of one run is not a number", "select",
          "left out, 1 of 4 runs whose numbers are not finite", predicted(infinite), code=0, start="trained",
          also=no_nan),
    Fault(INFINITE, "the score of one run is not a number", "select", "left out, 1 of 4 runs whose numbers are not",
          said(slice(3, 4), score=float("nan"), val_score=float("nan")), code=0, start="trained", also=no_nan),
    Fault(INFINITE, "a probability of every run is not a number", "select", "no run predicts finite numbers",
          predicted(infinite, slice(None)), start="trained", also=no_bundle),
    Fault(INFINITE, "the weights of every run are not finite", "select", "best.ckpt: fc.weight is not finite: delete",
          weights(lambda state: fill(state, float("nan"))), start="trained", kept=KEPT, also=no_bundle),
    Fault(LEFT_OUT, "train.folds=2, one fold of the best configuration is missing", "select",
          "is left out: predicted fold", the_best_lacks_a_fold, code=0, start="trained", also=board_says_why),
    Fault(LEFT_OUT, "no candidate fits the kernel's time", "select rehearse.hidden_images=10000000 rehearse.margin=100",
          "no candidate fits the kernel: 10000000 images at", start="trained", kept=KEPT),
    Fault(LEFT_OUT, "no candidate fits the kernel", "select select.megabytes=0.001",
          "no candidate fits the kernel: raise select.megabytes; the best one needs networks=2", start="trained",
          also=no_bundle),
    Fault(LAST, "no run left out a fold", "select", "was trained on all images, and no run of this sweep has its settings and left out a",
          on_all(slice(None)), start="trained", kept=KEPT, also=no_bundle),
    Fault(LAST, "the run on all images was stopped", "select", "was trained on all images and stopped early (user request)",
          on_all(slice(1), stopped="user request"), start="trained", kept=KEPT, also=no_bundle),
    Fault(TWICE, "another command works on models/", "select", "models: another command works on this folder",
          locked("models"), start="trained", kept=KEPT, also=no_bundle),
    Fault(TWICE, "another command works on reports/", "select", "reports: another command works on this folder",
          locked("reports"), start="trained", kept=KEPT, also=no_bundle),
    Fault(DISK, "paths.models is a file", "select paths.models=datastore.json", "datastore.json", start="trained",
          kept=[*KEPT, "datastore.json"]),
]  # fmt: skip


@pytest.mark.slow  # most of them need a training
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    RAW[:] = [raw]
    check(fault, fault_folder(fault.start), [*TINY, f"paths.raw={raw}"])
    release()


SELECTED = ["models/best/*", "reports/[!.]*.*"]


@pytest.mark.slow
def test_a_select_that_is_killed_leaves_one_whole_selection_and_ends_the_same_when_started_again(fault_folder, raw):
    """Killed at each step: while it reads, packs, verifies, and writes tables."""
    folder = fault_folder("packaged")
    before = hashes(folder, SELECTED)
    command = ("select", *TINY, f"paths.raw={raw}")

    def writes(pattern):
        return lambda: any(folder.glob(pattern))

    moments = ("models/.best-*", "models/.best-*/*.safetensors", "models/.best-*/bundle.json", "reports/.*.csv-*")
    for moment in map(writes, moments):
        running = start_module(*command, cwd=folder, stdout=DEVNULL)
        while running.poll() is None and not moment():
            time.sleep(0.001)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert hashes(folder, SELECTED) == before, "the same selection gives the same bytes, old or new"
    (folder / "models/best").rename(folder / "models/.best-killed-old")  # between the two renames
    done = run_module(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert hashes(folder, SELECTED) == before
    hidden = {path.name for name in ("models", "reports") for path in (folder / name).glob(".*")}
    assert hidden == {".lock"}


def test_of_two_selects_at_once_one_ends_and_the_other_says_so(fault_folder, raw):
    folder = fault_folder("trained")
    running = [start_module("select", *TINY, f"paths.raw={raw}", cwd=folder, stderr=PIPE) for _ in range(2)]
    errors = [each.communicate()[1] for each in running]
    assert sorted(each.returncode for each in running) == [0, 1], errors
    assert "another command works on this folder: wait until it ends" in "".join(errors)
    assert (folder / "reports/selection.json").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_bundle(fault_folder, raw):
    folder = fault_folder("trained")
    folders = ("paths.models=small/models", "paths.reports=small/reports")
    settings = {"kilobytes": 1000, "afterwards": "ls -A small/models"}  # one network has 1,500
    done = on_a_small_disk("select", *TINY, f"paths.raw={raw}", *folders, cwd=folder, **settings)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr and "make room" in done.stderr
    assert done.stdout.split()[-1] == ".lock"


def test_a_file_that_a_sweep_replaced_after_the_run_was_verified_is_not_read(trained, tmp_path):
    run = shutil.copytree(runs_of(trained)[0], tmp_path / runs_of(trained)[0].name)
    result = verified_result(run)
    shutil.copyfile(runs_of(trained)[1] / PREDICTIONS, run / PREDICTIONS)
    with pytest.raises(DamagedRunError, match="validation.npz was replaced while it was read"):
        read_run(run, result)
