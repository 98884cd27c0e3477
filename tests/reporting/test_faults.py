"""Faults that the report and the summary meet, each with the outcome."""

import json
import shutil

import pytest

from plant_pathology.core.hashes import file_hash
from plant_pathology.core.sealed import read_sealed, write_sealed
from plant_pathology.kernel.package import folder_hashes
from support.bundles import change_bundle
from support.commands import TINY, run_module
from support.damage import cut, emptied, flipped, missing, overwritten
from support.fault_table import Fault, check
from support.locks import locked, release
from support.prepared import leaves, prepare

DAMAGED = "A file that the report or the summary trusts is damaged"
PURPOSE = "The selection is for something else"
CHAIN = "Files of two selections, or of two kernels"
TWICE = "Two commands at once"
SELECT = "run `python -m plant_pathology.select`"
REVERSED = "[scab,rust,powdery_mildew,healthy,frog_eye_leaf_spot,complex]"
KEPT = ["reports/[!r]*.csv", "models/best/*"]  # what select wrote; report writes relabel.csv anew


def rehearsed(folder, **changed):
    """Write a passed rehearsal of the packaged kernel."""
    about = {
        "verdict": "passed",
        "competition": "sample",
        "synthetic": True,
        "isolation": "namespace",
        "isolation_reason": None,
        "sha256": folder_hashes(folder / "kernels"),
        "bundle": file_hash(folder / "kernels/dataset/bundle.json"),
        "test_sets": {"public": {"images": 8, "seconds": 9.0, "peak_memory_mb": 400, "disk_mb": 0.0}},
        "estimate": {"images": 5000, "seconds": None, "limit": 32400},
        "score": None,
        "checks": {"runs": "passed"},
    }
    write_sealed(folder / "reports/rehearsal.json", about | changed)


def then(damage):
    """Return a fault of a rehearsed kernel."""

    def make(folder):
        rehearsed(folder)
        damage(folder)

    return make


def another_store(folder):
    """Push other images to another store, where they are version 1, too."""
    prepare(folder / "other", leaves(0, 10))
    settings = ("paths.prepared=other", "paths.pointer=other.json", "store.uri=file://other-store")
    done = run_module("datastore", "push", *TINY, *settings, cwd=folder)
    assert done.returncode == 0, done.stderr


def selected_again(folder):
    change_bundle(folder / "models/best", title="another selection")


def packaged_again(folder):
    with (folder / "kernels/submission/submission.ipynb").open("a") as file:
        file.write("\n")


def of_another_bundle(folder):
    rehearsed(folder, bundle="0" * 64)


def metrics_of_another_selection(folder):
    """Put a metrics.json there that is whole, but of another selection."""
    path = folder / "reports/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"score": 0.99}))


def earlier_selection(folder):
    """Put a selection.json there as it would be after other tables were selected."""
    record = read_sealed(folder / "reports/selection.json")
    record["files"]["leaderboard.csv"] = "0" * 64
    write_sealed(folder / "reports/selection.json", record)


def without_rehearsal(folder):
    page = (folder / "reports/index.html").read_text()
    assert "8 public test images" not in page


def with_rehearsal(folder):
    assert "8 public test images" in (folder / "reports/index.html").read_text()


FAULTS = [
    *(
        Fault(DAMAGED, f"{file}: {how}", command, line, then(make), start="packaged", kept=["models/best/*"])
        for command, file, how, line, make in (
            ("report", "selection.json", "missing", f"selection.json does not exist: {SELECT}",
             missing("reports/selection.json")),
            ("report", "selection.json", "one bit flipped", "selection.json does not match its own checksum",
             flipped("reports/selection.json", 0.4)),
            ("report", "selection.json", "a list", "selection.json does not match its own checksum",
             overwritten("reports/selection.json", b"[]")),
            ("report", "predictions.npz", "cut in half", "predictions.npz has other bytes than were written",
             cut("reports/predictions.npz")),
            ("report", "predictions.npz", "empty", "predictions.npz is empty", emptied("reports/predictions.npz")),
            ("report", "predictions.csv", "missing", f"predictions.csv does not exist: {SELECT}",
             missing("reports/predictions.csv")),
            ("report", "leaderboard.csv", "one bit flipped", "leaderboard.csv has other bytes than were written",
             flipped("reports/leaderboard.csv")),
            ("report", "metrics.json", "one bit flipped", "metrics.json has other bytes than were written",
             flipped("reports/metrics.json")),
            ("report", "rehearsal.json", "one bit flipped", "rehearsal.json does not match its own checksum",
             flipped("reports/rehearsal.json", 0.4)),
            ("report", "rehearsal.json", "empty", "rehearsal.json is empty: run `python -m plant_pathology.rehearse`",
             emptied("reports/rehearsal.json")),
            ("report", "run.json of a run on the leaderboard", "cut in half",
             "run.json does not match its own checksum", cut("runs/*/run.json")),
            ("report", "run.json of a run on the leaderboard", "one bit flipped",
             "run.json does not match its own checksum", flipped("runs/*/run.json", 0.9)),
            ("report", "result.json of a run on the leaderboard", "a list",
             "result.json does not match its own checksum", overwritten("runs/*/result.json", b"[]")),
            ("report", "metrics.csv of a run on the leaderboard", "one bit flipped",
             "metrics.csv has other bytes than were written", flipped("runs/*/metrics.csv", 0.9)),
            ("summary", "rehearsal.json", "missing", "rehearsal.json does not exist: run `make repro`",
             missing("reports/rehearsal.json")),
            ("summary", "metrics.json", "cut in half", "metrics.json has other bytes than were written",
             cut("reports/metrics.json")),
            ("summary", "leaderboard.csv", "one bit flipped", "leaderboard.csv has other bytes than were written",
             flipped("reports/leaderboard.csv")),
            ("summary", "kernel-metadata.json", "cut in half", "rehearsal.json is of another kernel than kernels/",
             cut("kernels/submission/kernel-metadata.json")),
            ("summary --verdict", "rehearsal.json", "one bit flipped", "rehearsal.json does not match its own checksum",
             flipped("reports/rehearsal.json", 0.4)),
            ("summary --verdict", "rehearsal.json", "not JSON", "rehearsal.json does not match its own checksum",
             overwritten("reports/rehearsal.json", b"passed")),
        )
    ),
    *(
        Fault(PURPOSE, done, f"report {override}", line, start="packaged", kept=KEPT)
        for done, override, line in (
            ("the labels are in another order", f"competition.target.labels={REVERSED}",
             "was made for competition.target.labels[0]=complex, which is scab today"),
            ("another metric", "competition.metric=micro_f1",
             "was made for competition.metric=sample_f1, which is micro_f1 today"),
            ("another competition", "competition.name=another",
             "was made for competition.name=sample, which is another today"),
        )
    ),
    Fault(PURPOSE, "the store has other images under the same version", "report store.uri=file://other-store",
          "file://other-store holds another plant-pathology:1 than the one the runs were trained on: set store.uri",
          another_store, start="packaged", kept=KEPT),
    Fault(CHAIN, "models/best is of another selection", "report", "bundle.json is of another selection than",
          selected_again, start="packaged", kept=KEPT),
    Fault(CHAIN, "metrics.json is of another selection", "report", "metrics.json has other bytes than were written",
          metrics_of_another_selection, start="packaged", kept=KEPT),
    Fault(CHAIN, "leaderboard.csv is of another selection", "report", "leaderboard.csv has other bytes",
          earlier_selection, start="packaged", kept=KEPT),
    Fault(CHAIN, "the rehearsal is of the packaged kernel", "report", "index.html: 4 runs", rehearsed, code=0,
          start="packaged", kept=KEPT, also=with_rehearsal),
    Fault(CHAIN, "packaged again since the rehearsal", "report", "the page shows no rehearsal", then(packaged_again),
          code=0, start="packaged", kept=KEPT, also=without_rehearsal),
    Fault(CHAIN, "the rehearsal is of another bundle", "report", "the page shows no rehearsal", of_another_bundle,
          code=0, start="packaged", kept=KEPT, also=without_rehearsal),
    Fault(CHAIN, "the rehearsal is of another bundle", "summary", "rehearsal.json is of another bundle than",
          of_another_bundle, start="packaged", kept=KEPT),
    *(
        Fault(CHAIN, f"{done} since the rehearsal", command, "rehearsal.json is of another kernel than kernels/ holds",
              then(make), start="packaged", kept=KEPT)
        for command in ("summary", "summary --verdict")
        for done, make in (
            ("packaged again", packaged_again),
            ("one bit of a network in kernels/ flipped", flipped("kernels/dataset/*.safetensors")),
            ("kernels/ deleted", lambda folder: shutil.rmtree(folder / "kernels")),
        )
    ),
    Fault(CHAIN, "a run on the leaderboard is gone", "report", ", which is on the leaderboard: ",
          lambda folder: [shutil.rmtree(run) for run in folder.glob("runs/*lr*")], start="packaged", kept=KEPT),
    Fault(CHAIN, "the data of the runs is gone from the store", "report", "plant-pathology:1",
          lambda folder: shutil.rmtree(folder / "store"), start="packaged", kept=KEPT),
    Fault(TWICE, "another command works on reports/", "report", "reports: another command works on this folder",
          locked("reports"), start="packaged", kept=KEPT),
    Fault(TWICE, "another command works on kernels/", "report", "kernels: another command works on this folder",
          locked("kernels"), start="packaged", kept=KEPT),
    Fault("Nothing to report", "no selection", "report", f"selection.json does not exist: {SELECT}", start="trained"),
    Fault("Nothing to report", "no selection", "summary", "selection.json does not exist: run `make repro`",
          start="trained"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    settings = [] if fault.command.startswith("summary") else [*TINY, f"paths.raw={raw}"]
    check(fault, fault_folder(fault.start), settings)
    release()
