"""Faults that package and rehearse meet, each with the outcome."""

import json
import shutil
import signal
import time
from pathlib import Path
from subprocess import DEVNULL

import pytest

from plant_pathology.core.hashes import sealed
from plant_pathology.inference.bundle import BundleError, read_bundle
from plant_pathology.inference.custom import BUNDLED
from plant_pathology.inference.predictor import Predictor
from plant_pathology.kernel.scoring import problem_of
from support.bundles import change_bundle
from support.commands import PROJECT, TINY, on_a_small_disk, run_module, start_module
from support.damage import cut, emptied, flipped, missing, overwritten, replaced
from support.fault_table import Fault, check, hashes
from support.locks import locked, release

DAMAGED = "A file that package or rehearse trusts is damaged"
PURPOSE = "The bundle was selected for something else"
CHAIN = "The packaged kernel belongs to another bundle"
TWICE = "Two commands at once"
INPUT = "What a user gives is wrong"
KERNELS = ["kernels/dataset/*", "kernels/submission/*"]
BUNDLE, WEIGHTS = "models/best/bundle.json", "models/best/*.safetensors"
KERNEL = "kernels/submission/kernel-metadata.json"
PACKAGE, REHEARSE = "package package.owner=tester", "rehearse rehearse.images=100"
REVERSED = "[scab,rust,powdery_mildew,healthy,frog_eye_leaf_spot,complex]"


def earlier_code(folder):
    """Write bundle.json as the first versions did, without checksums."""
    path = folder / BUNDLE
    spec = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in spec.items() if key not in ("seal", "files")}))


def another_score(folder):
    change_bundle(folder / "models/best", score={"metric": "sample_f1", "validation": 0.99, "low": 0.9, "high": 1.0})


def earlier_package(folder):
    path = folder / KERNEL
    metadata = json.loads(path.read_text())
    del metadata["provenance"]["dataset"]
    path.write_text(json.dumps(metadata))


def own_code(folder):
    (folder / "own").mkdir()
    (folder / "own/sample.py").write_text("# a loader that is new since select\n")


def notebook(content):
    """Return a fault: conf/ and notebooks/ lie beside the data, as in a checkout, with this notebook."""

    def make(folder):
        for name in ("conf", "notebooks"):
            shutil.copytree(PROJECT / name, folder / name)
        (folder / "notebooks/submission.ipynb").write_text(content)

    return make


def images(*names):
    def make(folder):
        (folder / "given").mkdir()
        for name in names:
            (folder / "given" / name).touch()

    return make


def truth(*lines):
    """Return a fault: one test image of the user, and this truth of it."""

    def make(folder):
        images("a.jpg")(folder)
        (folder / "truth.csv").write_text("".join(f"{line}\n" for line in lines))

    return make


FAULTS = [
    *(
        Fault(DAMAGED, f"{file}: {how}", PACKAGE, line, make, start="packaged", kept=KERNELS)
        for file, how, line, make in (
            ("bundle.json", "missing", "bundle.json does not exist: run `python -m plant_pathology.select`",
             missing(BUNDLE)),
            ("bundle.json", "empty", "bundle.json is not JSON", emptied(BUNDLE)),
            ("bundle.json", "cut in half", "bundle.json is not JSON", cut(BUNDLE)),
            ("bundle.json", "one bit flipped", "bundle.json", flipped(BUNDLE, 0.9)),
            ("bundle.json", "a list", "was written by an earlier version of the code", overwritten(BUNDLE, b"[]")),
            ("bundle.json", "of earlier code", "was written by an earlier version of the code", earlier_code),
            ("a network", "missing", "does not exist, but bundle.json names it", missing(WEIGHTS)),
            ("a network", "one bit flipped", "has other bytes than bundle.json says", flipped(WEIGHTS)),
            ("a network", "cut in half", "has other bytes than bundle.json says", cut(WEIGHTS)),
        )
    ),
    *(
        Fault(DAMAGED, f"{file} of the kernel: {how}", REHEARSE, line, make, start="packaged")
        for file, how, line, make in (
            ("a network", "one bit flipped", "has other bytes than were written: run `python -m",
             flipped("kernels/dataset/*.safetensors")),
            ("bundle.json", "missing", "bundle.json does not exist: run `python -m plant_pathology.package`",
             missing("kernels/dataset/bundle.json")),
            ("a wheel", "one bit flipped", ".whl has other bytes than were written", flipped("kernels/dataset/*.whl")),
            ("a wheel", "empty", ".whl is empty", emptied("kernels/dataset/*.whl")),
            ("dataset-metadata.json", "cut in half", "dataset-metadata.json is not JSON",
             cut("kernels/dataset/dataset-metadata.json")),
            ("kernel-metadata.json", "cut in half", "kernel-metadata.json is not JSON", cut(KERNEL)),
            ("kernel-metadata.json", "a list", "kernel-metadata.json is no object in JSON",
             overwritten(KERNEL, b"[]")),
            ("the notebook", "missing", "submission.ipynb does not exist", missing("kernels/submission/*.ipynb")),
            ("dataset-metadata.json", "one word changed", "dataset-metadata.json has other bytes than were written",
             replaced("kernels/dataset/dataset-metadata.json", '"description": "', '"description": "A ')),
        )
    ),
    *(
        Fault(DAMAGED, f"{file} of the kernel: one word changed", REHEARSE,
              f"{file} is not as `package` wrote it, but edited or damaged: it is rehearsed as it is",
              replaced(f"kernels/submission/{file}", old, new), code=0, start="packaged", slow=True)
        for file, old, new in (
            ("kernel-metadata.json", '"synthetic": true', '"synthetic": false'),
            ("submission.ipynb", "print(", "print (")
        )
    ),
    *(
        Fault(PURPOSE, done, f"{command} {override}", line, make, start="packaged", kept=KERNELS)
        for command, done, override, line, make in (
            (PACKAGE, "answers have another separator", "competition.submit.separator=_",
             "was made for competition.submit.separator= , which is _ today", lambda folder: None),
            (PACKAGE, "answers have another form", "competition.submit.as=columns",
             "was made for competition.submit.as=labels, which is columns today", lambda folder: None),
            (PACKAGE, "another column of ids", "competition.test.id=id",
             "was made for competition.test.id=None, which is id today", lambda folder: None),
            (PACKAGE, "the test images are elsewhere", "\"competition.test.files='other/{image}'\"",
             "was made for competition.test.files=test_images/{image}", lambda folder: None),
            (PACKAGE, "another competition", "competition.name=another",
             "was made for competition.name=sample, which is another today", lambda folder: None),
            (PACKAGE, "another metric", "competition.metric=micro_f1", "was made for competition.metric=sample_f1",
             lambda folder: None),
            (PACKAGE, "the labels are in another order", f"competition.target.labels={REVERSED}",
             "was made for competition.target.labels[0]=complex, which is scab today", lambda folder: None),
            (REHEARSE, "the labels are in another order since select", f"competition.target.labels={REVERSED}",
             "was made for competition.target.labels[0]=complex, which is scab today", lambda folder: None),
            (REHEARSE, "the test images are elsewhere since select", "\"competition.test.files='other/{image}'\"",
             "was made for competition.test.files=test_images/{image}", lambda folder: None),
            (PACKAGE, "the code that predicts was another", "", "was written by other code than today's",
             lambda folder: change_bundle(folder / "models/best", code="0" * 64)),
            (PACKAGE, "the competition has code of its own since select", "paths.code=own",
             "was written by other code than today's", own_code),
        )
    ),
    Fault(CHAIN, "selected again since it was packaged", REHEARSE, "was packaged from another bundle than models/best",
          another_score, start="packaged"),
    Fault(CHAIN, "packaged by earlier code", REHEARSE, "was packaged by an earlier version of the code",
          earlier_package, start="packaged"),
    Fault(CHAIN, "kernels/dataset is missing", REHEARSE, "dataset-metadata.json does not exist: run `python -m",
          lambda folder: shutil.rmtree(folder / "kernels/dataset"), start="packaged"),
    Fault(CHAIN, "kernels/submission is missing", REHEARSE, "kernel-metadata.json does not exist: run `python -m",
          lambda folder: shutil.rmtree(folder / "kernels/submission"), start="packaged"),
    Fault(TWICE, "another command works on models/", PACKAGE, "models: another command works on this folder",
          locked("models"), start="packaged", kept=KERNELS),
    Fault(TWICE, "another command works on kernels/", PACKAGE, "kernels: another command works on this folder",
          locked("kernels"), start="packaged", kept=KERNELS),
    Fault(TWICE, "another command works on kernels/", REHEARSE, "kernels: another command works on this folder",
          locked("kernels"), start="packaged", kept=KERNELS),
    Fault(TWICE, "another command works on reports/", REHEARSE, "reports: another command works on this folder",
          locked("reports"), start="packaged", kept=KERNELS),
    *(
        Fault(INPUT, f"notebooks/submission.ipynb {what}", PACKAGE, line, notebook(content), start="packaged",
              kept=KERNELS)
        for what, content, line in (
            ("is cut", '{"cells": [', "submission.ipynb is not JSON"),
            ("has no cells", '{"metadata": {}}', "submission.ipynb is no notebook with cells of code"),
            ("has only text", '{"metadata": {}, "cells": [{"cell_type": "markdown", "source": "x"}]}',
             "submission.ipynb is no notebook with cells of code"),
            ("is a list", "[]", "submission.ipynb is no notebook with cells of code"),
        )
    ),
    *(
        Fault(INPUT, done, f"{REHEARSE} {override}", line, make, start="packaged", kept=KERNELS)
        for done, override, line, make in (
            ("rehearse.test_images names no folder", "rehearse.test_images=nowhere",
             "rehearse.test_images=nowhere: no such folder", lambda folder: None),
            ("rehearse.test_images is a file", "rehearse.test_images=datastore.json",
             "rehearse.test_images=datastore.json: no such folder", lambda folder: None),
            ("rehearse.test_images is empty", "rehearse.test_images=given", "no such folder, or no images in it",
             lambda folder: (folder / "given").mkdir()),
            ("rehearse.solution names no file", "rehearse.solution=nowhere.csv",
             "rehearse.solution: nowhere.csv does not exist", lambda folder: None),
            ("rehearse.solution is not UTF-8", "rehearse.solution=truth.csv", "truth.csv, line 2, is not UTF-8 text",
             lambda folder: (folder / "truth.csv").write_bytes("image,labels\nä.jpg,rust\n".encode("latin-1"))),
            ("rehearse.solution is empty", "rehearse.solution=truth.csv", "truth.csv is empty: correct the path, or the file",
             lambda folder: (folder / "truth.csv").touch()),
        )
    ),
    Fault(INPUT, "rehearse.solution without rehearse.test_images", f"{REHEARSE} rehearse.solution=truth.csv",
          "it is the truth of rehearse.test_images, which is not set", truth("image,labels", "a.jpg,rust"),
          start="packaged", kept=KERNELS),
    *(
        Fault(INPUT, f"rehearse.solution: {done}", f"{REHEARSE} rehearse.test_images=given rehearse.solution=truth.csv",
              line, truth(*lines), start="packaged", kept=KERNELS)
        for done, lines, line in (
            ("no row for an image", ("image,labels", "other.jpg,rust"), "has no row for 1 images, first a.jpg"),
            ("no column of ids", ("picture,labels", "a.jpg,rust"), "truth.csv"),
            ("no column with the truth", ("image,answer", "a.jpg,rust"), "truth.csv"),
            ("an unknown label", ("image,labels", "a.jpg,rust mould"), "a.jpg has 'mould', which is no label of the"),
            ("an empty cell", ("image,labels", "a.jpg,"), "a.jpg has '', which is no label of the training images"),
        )
    ),
    *(
        Fault(INPUT, f"too large an ensemble for the hours of a kernel on {machine}", f"{command} {hours}"
              f" rehearse.hidden_images=10000000 package.accelerator={machine}", line, start="packaged", kept=KERNELS)
        for command, machine, hours, line in (
            (PACKAGE, "NvidiaTeslaT4", "competition.submit.gpu_hours=2",
             "hours; times rehearse.margin=2 that exceeds the 2 hours that Kaggle gives package.accelerator=NvidiaTesla"),
            (PACKAGE, "cpu", "competition.submit.cpu_hours=3",
             "hours; times rehearse.margin=2 that exceeds the 3 hours that Kaggle gives package.accelerator=cpu"),
            ("select", "NvidiaTeslaT4", "competition.submit.gpu_hours=2",
             "no candidate fits the kernel: 10000000 images at "),
        )
    ),
    Fault(INPUT, "a user name that Kaggle does not have", "package package.owner=a/b", "package.owner",
          start="packaged", kept=KERNELS),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    check(fault, fault_folder(fault.start), [*TINY, f"paths.raw={raw}"])
    release()


def test_the_kernel_checks_a_bundle_as_it_was_sealed_here(tmp_path):
    """inference/bundle.py, which travels, and core/hashes.py, which does not, must agree."""
    content = {"files": {}, "weights": [0.1, 1e-7, 1 / 3], "title": "Blätter", "none": None}
    (tmp_path / "bundle.json").write_bytes(sealed(content))
    assert content.items() <= read_bundle(tmp_path).items()
    (tmp_path / "bundle.json").write_bytes(sealed(content).replace(b"1e-07", b"2e-07"))
    with pytest.raises(BundleError, match="does not match its own checksum"):
        read_bundle(tmp_path)


def killed(folder, pattern, *command):
    """Kill a command with SIGKILL as soon as a file fits the pattern, and return whether it was still running."""
    running = start_module(*command, cwd=folder, stdout=DEVNULL)
    while running.poll() is None and not any(folder.glob(pattern)):
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.wait()
    return running.returncode == -signal.SIGKILL


@pytest.mark.parametrize("cell, kind, problem", [
    (("rust",), "one", None),
    (("rust", "scab"), "several", None),
    (("rust", "scab"), "one", "has 2 labels instead of one"),
    ((), "one", "has 0 labels instead of one"),
    (("mould",), "ordinal", "has 'mould', which is no label of the training images"),
    (("1e3",), "number", None),
    (("many",), "number", "has 'many', which is no number"),
    (("inf",), "number", "has 'inf', which is no number"),
    (("",), "number", "has '', which is no number"),
])  # fmt: skip
def test_a_cell_that_is_no_truth_is_named(cell, kind, problem):
    assert problem_of(cell, frozenset({"rust", "scab"}), kind) == problem


@pytest.mark.slow
def test_code_beside_a_bundle_that_the_bundle_does_not_name_is_not_run(packaged, tmp_path):
    bundle = Path(shutil.copytree(packaged / "models/best", tmp_path / "best"))
    (bundle / BUNDLED).write_text("raise SystemExit('ran')\n")
    assert Predictor(bundle).networks


@pytest.mark.slow
def test_a_package_that_is_killed_leaves_whole_folders_and_ends_the_same_when_started_again(fault_folder, raw):
    folder = fault_folder("packaged")
    command = ("package", *TINY, f"paths.raw={raw}", "package.owner=tester")
    before = hashes(folder, KERNELS)
    for pattern in ("kernels/.dataset-*/*.safetensors", "kernels/.submission-*/kernel-metadata.json"):
        killed(folder, pattern, *command)
        assert hashes(folder, KERNELS) == before
    (folder / "kernels/dataset").rename(folder / "kernels/.dataset-killed-old")  # between the two renames
    done = run_module(*command, cwd=folder)
    assert done.returncode == 0 and hashes(folder, KERNELS) == before, done.stderr
    assert {path.name for path in (folder / "kernels").iterdir()} == {".lock", "dataset", "submission"}


@pytest.mark.slow
def test_a_rehearsal_that_is_killed_leaves_no_verdict_and_its_files_are_cleaned_up(fault_folder, raw):
    folder = fault_folder("packaged")
    command = ("rehearse", *TINY, f"paths.raw={raw}", "rehearse.images=100")
    assert killed(folder, "reports/.rehearsal-*/public-working", *command)
    assert not (folder / "reports/rehearsal.json").exists()
    assert len(list((folder / "reports").glob(".rehearsal-*"))) == 2  # scratch and results
    done = run_module(*command, "rehearse.test_images=nowhere", cwd=folder)
    assert "no such folder" in done.stderr
    assert list((folder / "reports").glob(".rehearsal*")) == []


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_kernel(fault_folder, raw):
    folder = fault_folder("packaged")
    settings = {"kilobytes": 1000, "afterwards": "ls -A small/kernels"}  # one network has 1,500
    overrides = (*TINY, f"paths.raw={raw}", "package.owner=tester", "paths.kernels=small/kernels")
    done = on_a_small_disk("package", *overrides, cwd=folder, **settings)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr and "make room" in done.stderr
    assert done.stdout.split()[-1] == ".lock"
