"""`rehearse`: the packaged kernel, its sandbox, the checks and the hidden test set."""

import json
import os
import re
import shutil
import socket
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from plant_pathology.competition.form import read_form
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.time_limit import TimeLimit
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import bytes_hash, file_hash, folder_hash
from plant_pathology.data.predictions import read_predictions
from plant_pathology.inference.decode import ImageError, decode
from plant_pathology.inference.predictor import Predictor, predict_submission
from plant_pathology.inference.test_set import Form
from plant_pathology.kernel.kaggle_image import Environment, link_image
from plant_pathology.kernel.limits import Machine, check_time, rehearsal_timeout
from plant_pathology.kernel.sandbox import kernel_environment, run_kernel, why_no_namespaces
from plant_pathology.kernel.scoring import read_truth
from plant_pathology.kernel.source import NOTEBOOK
from plant_pathology.kernel.submission_check import check_submission
from plant_pathology.kernel.test_sets import SIZES, given_test_set, made_test_set
from support.bundles import change_bundle
from support.commands import PROJECT, config, git, run_in, run_module

COMPETITION = Competition.from_config(config())
LABELS = list(COMPETITION.target.labels)


@pytest.fixture
def root(project, tmp_path):
    """Bundle and kernels of the finished project, to change; its raw images stay where they are."""
    for name in ("models", "kernels"):
        shutil.copytree(project / name, tmp_path / name)
    return tmp_path


def stage(module, root, project, *overrides):
    return run_module(
        module,
        "competition=sample",
        "package.owner=tester",
        f"paths.raw={project}/data/raw/sample",
        *overrides,
        cwd=root,
    )


def rehearsal(root):
    return json.loads((root / "reports" / "rehearsal.json").read_text())


def metadata(root):
    return json.loads((root / "kernels/submission/kernel-metadata.json").read_text())


def test_the_kernel_asks_for_what_it_needs_and_no_internet(project):
    kernel = metadata(project)
    assert kernel["enable_internet"] is False
    assert kernel["id"] == "tester/sample-submission" and kernel["title"].replace(" ", "-") == "sample-submission"
    assert kernel["dataset_sources"] == ["tester/sample-bundle"] and kernel["competition_sources"] == ["sample"]
    assert (project / "kernels/submission" / kernel["code_file"]).exists()
    dataset = json.loads((project / "kernels/dataset/dataset-metadata.json").read_text())
    assert dataset["id"] == kernel["dataset_sources"][0]


def test_the_metadata_record_commit_data_and_runs(project):
    origin = metadata(project)["provenance"]
    locked = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert origin["commit"] == git(project, "rev-parse", "HEAD") and origin["uncommitted"] == []
    for stage_name in ("prepare", "push", "train", "select"):
        outs = {out["path"]: out["md5"] for out in locked[stage_name]["outs"]}
        assert origin["dvc_lock"][stage_name] == outs
    pointer = json.loads((project / "datastore.json").read_text())
    assert origin["data"] == {"ref": pointer["ref"], "sha256": pointer["sha256"]}
    for run in origin["runs"]:
        on_disk = yaml.safe_load((project / "runs" / run["run"] / "config.yaml").read_text())
        assert run["config"]["model"] == on_disk["model"]
    notebook = json.loads((project / "kernels/submission/submission.ipynb").read_text())
    assert notebook["metadata"]["provenance"] == origin


@pytest.mark.slow
def test_hashes_of_changed_files_are_not_recorded(project, tmp_path):
    shutil.copytree(project, tmp_path / "checkout", symlinks=True)
    best = tmp_path / "checkout/models/best/bundle.json"
    changed = best.read_text().replace('"sample"', '"sample" ')
    best.unlink()
    best.write_text(changed)
    done = run_module("package", cwd=tmp_path / "checkout", PYTHONPATH="src")
    assert done.returncode == 0, done.stderr
    assert metadata(tmp_path / "checkout")["provenance"]["dvc_lock"] == {}


def test_the_wheel_holds_only_the_room_inference(project):
    wheel = next((project / "kernels/dataset").glob("plant_pathology-*.whl"))
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    room = PROJECT / "src/plant_pathology/inference"
    modules = {f"plant_pathology/{path.relative_to(room.parent).as_posix()}" for path in room.rglob("*.py")}
    assert names == modules | {"plant_pathology/__init__.py"}


def test_the_rehearsal_passes_offline_and_equal_on_the_public_and_a_hidden_test_set(project):
    report = rehearsal(project)
    assert report["verdict"] == "passed"
    names = {"runs", "time", "compute", "offline", "imports", "submission", "equal", "readable", "unreadable"}
    assert set(report["checks"]) == names and set(report["checks"].values()) == {"passed"}
    public, hidden = report["test_sets"]["public"], report["test_sets"]["hidden"]
    assert (public["images"], public["mounts"]) == (8, "old") and (hidden["images"], hidden["mounts"]) == (100, "new")
    estimate = {"images": 5000, "seconds": pytest.approx(50 * hidden["seconds"], rel=0.01), "limit": 32400}
    assert report["estimate"] == estimate | {"accelerator": "NvidiaTeslaT4"}
    form = pd.read_csv(project / "data/raw/sample/sample_submission.csv")
    assert pd.read_csv(project / "reports/rehearsal/submission.csv")["image"].tolist() == form["image"].tolist()


def test_the_hidden_test_set_has_other_names_sizes_and_order_and_an_image_that_cannot_be_read(raw, tmp_path):
    unreadable = made_test_set(raw, tmp_path / "hidden", 150, COMPETITION)
    form = read_form(COMPETITION, tmp_path / "hidden").table
    files = {path.name for path in (tmp_path / "hidden/test_images").iterdir()}
    assert len(files) == 150 and set(form["image"]) == files and list(form["image"]) != sorted(files)
    assert not files & {path.name for folder in ("train_images", "test_images") for path in (raw / folder).iterdir()}
    sizes = set()
    for path in (tmp_path / "hidden/test_images").iterdir():
        if path.name != unreadable:
            sizes.add(Image.open(path).size)
    assert set(SIZES) < sizes
    with pytest.raises(ImageError):
        decode(tmp_path / "hidden/test_images" / unreadable, 32)
    again = tmp_path / "again"
    made_test_set(raw, again, 150, COMPETITION)
    assert folder_hash(again) == folder_hash(tmp_path / "hidden")


@pytest.mark.slow
def test_another_test_set_can_be_rehearsed_and_scored(project, root):
    """With images from 32 to 4,000 px."""
    images = shutil.copytree(project / "data/raw/sample/train_images", root / "images")
    for size, path in zip(((32, 32), (4000, 3000), (32, 4000)), sorted(images.iterdir()), strict=False):
        with Image.open(path) as image:
            image.resize(size).save(path)
    (root / "data/extra").mkdir(parents=True)
    shutil.copy(min(images.iterdir()), root / "data/extra/small.jpg")
    (root / "data/extra/more.csv").write_text("image,labels\nsmall.jpg,rust\n")
    solution = project / "data/raw/sample/train.csv"
    given = (f"rehearse.test_images={images}", f"rehearse.solution={solution}", "prepare.extra=more.csv")
    done = stage("rehearse", root, project, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    both = pd.read_csv(root / "reports/rehearsal/submission.csv").merge(pd.read_csv(solution), on="image")
    sets = MultiLabelBinarizer().fit(both["labels_y"].str.split())
    truth, ours = (sets.transform(both[column].str.split()) for column in ("labels_y", "labels_x"))
    assert rehearsal(root)["score"] == pytest.approx(f1_score(truth, ours, average="samples"))
    assert "is not as `package` wrote it" not in done.stdout
    known = len(both) - 3 + 1
    assert rehearsal(root)["scored"] == {"metric": "sample_f1", "images": len(both), "training_images": known}
    told = f"on {len(both)} images, too high a score: {known} of them are training images"
    assert f"score   sample_f1 {rehearsal(root)['score']:.4f} {told}" in done.stdout


def test_a_missing_solution_is_reported_before_the_kernel_runs(project, root):
    done = stage("rehearse", root, project, "rehearse.solution=nowhere.csv")
    assert done.returncode == 1 and done.stderr.startswith("error: rehearse.solution: nowhere.csv does not exist")


def test_hidden_files_are_no_test_images(project, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in (".DS_Store", "._a.jpg", "a.jpg"):
        (images / name).write_bytes(b"leaf")
    assert COMPETITION.test.files.endswith("}"), "so any name could be an id"
    given_test_set(images, project / "data/raw/sample", tmp_path / "given", COMPETITION)
    assert read_form(COMPETITION, tmp_path / "given").table["image"].tolist() == ["a.jpg"]
    assert [path.name for path in (tmp_path / "given/test_images").iterdir()] == ["a.jpg"]


def truth_of(solution, form, tmp_path):
    return read_truth(solution, tmp_path, form, LABELS, COMPETITION).astype(int).tolist()


def test_a_solution_may_repeat_a_row_but_not_contradict_itself(tmp_path):
    form = Form(pd.DataFrame({"image": ["b.jpg", "a.jpg"], "labels": ""}), "image", [])
    one, both = [[label in cell for label in LABELS] for cell in (LABELS[:1], LABELS[:2])]
    solution = tmp_path / "truth.csv"
    x, y = LABELS[:2]
    rows = ["image,labels", "c.jpg,no", "c.jpg,test", f"a.jpg,{x}", f"b.jpg,{x} {y}", f"b.jpg,{y} {x}"]
    solution.write_text("\n".join(rows))
    assert truth_of(solution, form, tmp_path) == [both, one]
    solution.write_text("\n".join([*rows, f"a.jpg,{y}"]))
    with pytest.raises(UserError, match="truth.csv: a.jpg has two truths, in line 4 and line 7: remove the wrong one"):
        truth_of(solution, form, tmp_path)


def test_a_solution_with_an_annotation_per_label_has_all_labels_of_an_image(tmp_path):
    form = Form(pd.DataFrame({"image": ["a.jpg"], "labels": ""}), "image", [])
    solution = tmp_path / "truth.json"
    solution.write_text(json.dumps([{"image": "a.jpg", "labels": label} for label in LABELS[:2]]))
    assert truth_of(solution, form, tmp_path) == [[label in LABELS[:2] for label in LABELS]]


LIGHT = """
import os, time
import pandas as pd
from pathlib import Path

inputs, working = Path(os.environ["KAGGLE_INPUT"]), Path(os.environ["KAGGLE_WORKING"])
table = pd.read_csv(next(inputs.rglob("sample_submission.csv")))
hidden = len(table) > 8
known = {known}
table["labels"] = [known.get(image, {fallback!r}) for image in table["image"]]
out = working / "submission.csv"
{fault}
table.to_csv(out, index=False)
"""


def plant(root, project, fault):
    """A kernel without torch, which knows what to say of the public test set, and has a fault."""
    known = pd.read_csv(project / "reports/rehearsal/submission.csv").set_index("image")["labels"].to_dict()
    fallback = json.loads((project / "models/best/bundle.json").read_text())["fallback"]
    fallback = " ".join(np.array(LABELS)[np.array(fallback[0])])
    source = LIGHT.format(known=known, fallback=fallback, fault=fault)
    path = root / "kernels/submission/submission.ipynb"
    path.unlink()
    cells = [{"cell_type": "code", "source": [source]}]
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": {"name": "python3"}}}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault, check, detail",
    [
        ("import hydra", "runs", "Notebook Threw Exception: ModuleNotFoundError: No module named 'hydra'"),
        ("import urllib.request; urllib.request.urlopen('http://127.0.0.1')", "runs", "urlopen"),
        ("open(inputs / 'x', 'w')", "runs", "/kaggle/input/x"),
        ("out = Path('/tmp/submission.csv')", "submission", "Submission CSV Not Found"),
        ("table = table.rename(columns={'labels': 'label'})", "submission", "Submission Scoring Error: columns"),
        ("import numpy; hog = numpy.ones(2**28)", "compute", "Notebook Exceeded Allowed Compute: MemoryError"),
        ("(working / 'big').write_bytes(bytes(2**25))", "compute", "Notebook Exceeded Allowed Compute: "),
        ("table.loc[0, 'labels'] = 'complex rust scab'", "equal", "1 of 8 rows differ"),
        ("import timm", "runs", "No module named 'timm'"),
    ],
)
def test_a_kernel_that_kaggle_would_fail_fails_here(project, root, fault, check, detail):
    plant(root, project, fault)
    done = stage("rehearse", root, project, "rehearse.memory_gb=1.5", "rehearse.disk_gb=0.02")
    assert done.returncode == 1 and "the rehearsal failed" in done.stderr
    assert "submission.ipynb is not as `package` wrote it" in done.stdout
    assert "kernel-metadata.json is not" not in done.stdout
    report = rehearsal(root)
    assert report["verdict"] == "failed" and detail in report["checks"][check]
    assert "Kaggle's image as of 2026-" in report["image"] and f"image   {report['image']}" in done.stdout
    assert set(report["test_sets"]) == {"public"}, "the hidden test set is for kernels that pass the public one"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault, found",
    [
        (
            "time.sleep(2 * hidden)",
            {
                "time": "times rehearse.margin=2 that exceeds the 0.0278 hours that Kaggle gives package.accelerator=",
                "equal": "of 100 rows differ from the repository's predictions",
                "unreadable": "the kernel's log does not name the damaged image",
            },
        ),
        (
            "table = table.sort_values('image')",
            {"submission": "hidden: Submission Scoring Error: the ids are not in"},
        ),
        (
            "table['labels'] = table['labels'] if not hidden else 'scab rust'",
            {"unreadable": "has 'scab rust'"},
        ),
    ],
)
def test_failures_on_the_hidden_test_set_alone_are_found(project, root, fault, found):
    plant(root, project, fault)
    assert stage("rehearse", root, project, "rehearse.images=100", "rehearse.timeout_s=100").returncode == 1
    report = rehearsal(root)
    assert all(detail in report["checks"][check] for check, detail in found.items())
    assert set(report["test_sets"]) == {"public", "hidden"}


SCRIPT = """
import os, probe, socket
print("imported", probe.__name__)
inputs = os.environ["KAGGLE_INPUT"]
for change in (
    lambda: open(inputs + "/data/new", "w"),
    lambda: open(inputs + "/data/probe.py", "a"),
    lambda: os.remove(inputs + "/data/probe.py"),
):
    try:
        change()
    except OSError as error:
        print("read-only" if "ead-only" in str(error) else error)
with open("out.txt", "w") as file:
    file.write("hello")
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=5)
except OSError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("isolation", ["namespace", "audit-hook"])
def test_a_kernel_can_import_the_image_s_packages_and_has_no_network(tmp_path, monkeypatch, isolation):
    if isolation == "namespace" and (reason := why_no_namespaces()):
        pytest.skip(reason)
    packages, kernel, working = (tmp_path / name for name in ("packages", "kernel", "working"))
    for folder in (packages, kernel, working):
        folder.mkdir()
    (packages / "probe.py").touch()

    def link_probe(image, environment):
        image.mkdir()
        (image / "probe.py").symlink_to(packages / "probe.py")

    monkeypatch.setattr("plant_pathology.kernel.sandbox.link_image", link_probe)
    (kernel / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    with socket.create_server(("127.0.0.1", 0)) as server:
        (kernel / "kernel.py").write_text(SCRIPT.format(port=server.getsockname()[1]))
        outcome = run_kernel(kernel, {"data": packages}, working, timeout_s=60, isolation=isolation)
    assert outcome.error is None, outcome.log
    assert outcome.isolation == isolation and not outcome.network
    assert "imported probe" in outcome.log and "refused" in outcome.log
    assert outcome.log.count("read-only") == 3 and not (packages / "new").exists()
    assert outcome.disk_used == 5 and (working / "out.txt").read_text() == "hello"


def fake_environment(folder: Path, version: str) -> Path:
    """Make a virtual environment with the packages of this one but tqdm, whose version is given; return its python."""
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/*/site-packages")
    link_image(folder / "image")
    for link in (folder / "image").iterdir():
        if not link.name.startswith("tqdm"):
            (packages / link.name).symlink_to(link.resolve())
    info = packages / f"tqdm-{version}.dist-info"
    for path, text in (
        (info / "METADATA", f"Metadata-Version: 2.1\nName: tqdm\nVersion: {version}\n"),
        (info / "RECORD", "tqdm/__init__.py,,\n"),
        (packages / "tqdm/__init__.py", f"__version__ = {version!r}\n"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder / "bin/python"


@pytest.mark.parametrize("isolation", ["namespace", "audit-hook"])
def test_a_kernel_runs_with_the_versions_of_the_environment_that_is_given(tmp_path, isolation):
    if isolation == "namespace" and (reason := why_no_namespaces()):
        pytest.skip(reason)
    environment = Environment.of(str(fake_environment(tmp_path / "venv", "4.67.3")))
    (tmp_path / "working").mkdir()
    (tmp_path / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    (tmp_path / "kernel.py").write_text("import tqdm, numpy; print('tqdm', tqdm.__version__, numpy.__version__)")
    outcome = run_kernel(tmp_path, {}, tmp_path / "working", 60, isolation=isolation, environment=environment)
    assert outcome.error is None and f"tqdm 4.67.3 {np.__version__}" in outcome.log, outcome.log
    assert "tqdm" not in environment.compared(None) and "numpy" in environment.compared(None)
    assert "(the versions in package.docker_image=an-image are not)" in environment.compared("an-image")


def test_an_environment_that_lacks_a_package_or_cannot_be_run_is_named(tmp_path):
    python = fake_environment(tmp_path / "venv", "4.67.3")
    next(tmp_path.glob("venv/lib/*/site-packages/pandas-*")).unlink()
    with pytest.raises(UserError, match=f"rehearse.python={python} has no pandas: install it there"):
        Environment.of(str(python)).compared(None)
    with pytest.raises(UserError, match="rehearse.python=/nowhere cannot be run"):
        Environment.of("/nowhere")


LINKED = """
import os
from pathlib import Path
data = Path(os.environ["KAGGLE_INPUT"]) / "data"
[form] = [each for each in data.rglob("sample_submission.csv") if "again" not in each.parts]
image = data / "train_images/large/b.jpg"
print("found", form.read_text(), *sorted(path.name for path in (form.parent / "test_images").iterdir()))
entries = sorted(path.name for path in data.iterdir() if path.exists() and path.name != "again")
print("entries", *entries, image.read_text())
(Path(os.environ["KAGGLE_WORKING"]) / "submission.csv").write_text("written")
for change in (
    lambda: image.open("w"),
    lambda: (data / "test_images/new").touch(),
    lambda: (data / "test_images/a.jpg").unlink(),
    lambda: form.open("a"),
):
    try:
        change()
    except OSError as error:
        print("read-only" if "ead-only" in str(error) else error)
"""


@pytest.mark.parametrize("isolation", ["namespace", "audit-hook"])
def test_a_competition_folder_of_symbolic_links_is_complete_and_read_only(tmp_path, isolation, monkeypatch):
    if isolation == "namespace" and (reason := why_no_namespaces()):
        pytest.skip(reason)
    elsewhere, raw = tmp_path / "elsewhere", tmp_path / "raw"
    (elsewhere / "test_images").mkdir(parents=True)
    (elsewhere / "test_images" / "a.jpg").touch()
    (elsewhere / "form.csv").write_text("form")
    raw.mkdir()
    (raw / "train.csv").touch()
    (raw / "test_images").symlink_to("../elsewhere/test_images")
    (raw / "sample_submission.csv").symlink_to(elsewhere / "form.csv")
    (raw / "nothing").symlink_to(elsewhere / "deleted")
    (raw / "again").symlink_to(raw)
    (raw / "train_images/large").mkdir(parents=True)
    (elsewhere / "8c9ce4").write_text("pixels")
    (raw / "train_images/large/b.jpg").symlink_to(elsewhere / "8c9ce4")
    (tmp_path / "beside working").touch()
    (raw / "train_images/notes.txt").symlink_to(tmp_path / "beside working")
    (tmp_path / "competition").symlink_to(raw)
    (tmp_path / "working").mkdir()
    # The kernel, too, may be links, into DVC's cache.
    (kernel := tmp_path / "kernel").mkdir()
    (kernel / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    (elsewhere / "79fd3b").write_text(LINKED)
    (kernel / "kernel.py").symlink_to(elsewhere / "79fd3b")
    inputs = {"data": tmp_path / "competition"}
    monkeypatch.chdir(tmp_path)
    outcome = run_kernel(kernel, inputs, Path("working"), timeout_s=60, isolation=isolation)
    assert outcome.error is None, outcome.log
    assert "found form a.jpg" in outcome.log
    assert "entries sample_submission.csv test_images train.csv train_images pixels" in outcome.log
    assert outcome.log.count("read-only") == 4
    assert (tmp_path / "working/submission.csv").read_text() == "written"
    assert [path.name for path in (elsewhere / "test_images").iterdir()] == ["a.jpg"]
    assert (elsewhere / "8c9ce4").read_text() == "pixels" and not list(tmp_path.glob("tmp*"))


OTHER_DISKS = """
import os
from pathlib import Path
data = Path(os.environ["KAGGLE_INPUT"]) / "data"
print("found", (data / "test images/a.jpg").read_text(), os.listdir(data / "other"), end=" ")
print(Path("/etc/hostname").read_text())
for name in ("test images", "other"):
    try:
        (data / name / "new").touch()
    except OSError as error:
        print(error.strerror)
"""


def test_other_disks_in_a_folder_are_shown_and_read_only(tmp_path):
    """As in a container, whose host mounts /etc/hostname, or a folder of images that another disk holds."""
    if reason := why_no_namespaces():
        pytest.skip(reason)
    raw, images = tmp_path / "raw", tmp_path / "images"
    for folder in (raw / "test images", raw / "other", images, tmp_path / "working"):
        folder.mkdir(parents=True)
    (images / "a.jpg").write_text("pixels")
    (tmp_path / "hostname").write_text("container")
    (tmp_path / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    (tmp_path / "kernel.py").write_text(OTHER_DISKS)
    run = "import sys; from pathlib import Path; from plant_pathology.kernel.sandbox import run_kernel;"
    run += "outcome = run_kernel(Path(), {'data': Path('raw')}, Path('working'), 60);"
    run += "print(outcome.network_off_by, outcome.log, outcome.error)"
    mounts = "mount --bind images 'raw/test images' && mount --bind hostname /etc/hostname"
    mounts += " && mount -t tmpfs -o noexec none raw/other && touch raw/other/b.jpg"
    within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    printed = run_in(tmp_path, *within, "env", f"PYTHONPATH={PROJECT / 'src'}", sys.executable, "-c", run)
    assert printed.startswith("namespace found pixels ['b.jpg'] container\n"), printed
    assert printed.count("Read-only file system") == 2 and printed.rstrip().endswith("None")


def test_a_system_that_refuses_a_mount_is_not_taken_for_the_kernel_s_error(tmp_path, monkeypatch):
    if reason := why_no_namespaces():
        pytest.skip(reason)
    (tmp_path / "bin").mkdir()
    refuses = 'if [ "$1" = --rbind ]; then echo "mount: denied"; echo advice; exit 32; fi'
    (tmp_path / "bin/mount").write_text(f'#!/bin/sh\n{refuses}\n{shutil.which("mount")} "$@"\n')
    (tmp_path / "bin/mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(
        "plant_pathology.kernel.sandbox.kernel_environment",
        lambda *paths: kernel_environment(*paths) | {"PATH": os.environ["PATH"]},
    )
    (tmp_path / "working").mkdir()
    (tmp_path / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    (tmp_path / "kernel.py").write_text("print(1)")
    outcome = run_kernel(tmp_path, {}, tmp_path / "working", timeout_s=60)
    assert outcome.network_off_by == "audit-hook: no sandbox can be built here (mount: denied)"
    assert outcome.error is None
    with pytest.raises(UserError, match="isolation=namespace: no sandbox can be built here"):
        run_kernel(tmp_path, {}, tmp_path / "working", timeout_s=60, isolation="namespace")


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["namespace", "audit-hook"])
def test_a_kernel_that_hangs_is_killed_and_one_that_dies_is_reported(tmp_path, isolation):
    if isolation == "namespace" and (reason := why_no_namespaces()):
        pytest.skip(reason)
    (tmp_path / "working").mkdir()
    (tmp_path / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    for program, error in (
        ("import time; time.sleep(60)", "timeout"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed"),
    ):
        (tmp_path / "kernel.py").write_text(program)
        outcome = run_kernel(tmp_path, {}, tmp_path / "working", timeout_s=3, isolation=isolation)
        assert outcome.error.startswith(error) and outcome.seconds < 30
    assert not MACHINE.check_compute(0, 0, outcome.error).passed


def test_the_report_says_why_a_kernel_was_not_isolated_by_namespaces(tmp_path, monkeypatch):
    monkeypatch.setattr("plant_pathology.kernel.sandbox.sys.platform", "darwin")
    why_no_namespaces.cache_clear()
    (tmp_path / "working").mkdir()
    (tmp_path / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    (tmp_path / "kernel.py").write_text("print(1)")
    outcome = run_kernel(tmp_path, {}, tmp_path / "working", timeout_s=60)
    why_no_namespaces.cache_clear()
    assert outcome.network_off_by == "audit-hook: this system (darwin) has no network namespaces"


MACHINE = Machine(memory_gb=2, disk_gb=1)


@pytest.mark.parametrize("speedup, shown", [(1, None), (4, "so 188 s for 500 on Kaggle")])
def test_the_time_on_kaggle_is_estimated_from_the_seconds_per_image(speedup, shown):
    limit = TimeLimit(seconds=1000, images=500, margin=2, speedup=speedup)
    check = check_time(limit, seconds=150, images=100, timed_out=False)
    shown = shown or "500 images at 1.5 s each would take 0.208 hours; times rehearse.margin=2 that exceeds the 0.278"
    assert check.passed is (speedup > 1) and shown in check.detail
    assert not check_time(limit, 1, 100, timed_out=True).passed
    # What is ended for slowness would never have been in time.
    assert not check_time(limit, rehearsal_timeout(limit, 100), 100, timed_out=False).passed


def test_the_limit_is_the_competition_s_for_the_kernel_s_machine():
    for machine, timeout, hours in (("cpu", None, 9), ("NvidiaTeslaT4", None, 2), ("cpu", 1800, 0.5)):
        cfg = config("competition=plant-pathology-2021-fgvc8", f"package.accelerator={machine}")
        cfg.rehearse.timeout_s = timeout
        limit = TimeLimit.from_config(cfg, Competition.from_config(cfg))
        assert limit.seconds == 3600 * hours and limit.per_image == 3600 * hours / 2 / 5000


@pytest.mark.parametrize(
    "memory, disk, error, passed",
    [
        (2 * 10**9, 10**9, None, True),
        (2 * 10**9 + 1, 0, None, False),
        (0, 10**9 + 1, None, False),
        (0, 0, "ValueError: no labels", True),  # which another check says
        (0, 0, "MemoryError", False),
    ],
)
def test_use_beyond_the_machine_s_memory_or_disk_fails(memory, disk, error, passed):
    assert MACHINE.check_compute(memory, disk, error).passed is passed


FORM = Form(pd.DataFrame({"image": ["a.jpg", "b.jpg"], "labels": ["healthy", "healthy"]}), "image", ["a.jpg", "b.jpg"])
SPEC = {"kind": "several", "answers": {"as_": "labels", "labels": LABELS, "separator": " ", "positive": None}}


@pytest.mark.parametrize(
    "rows, wrong",
    [
        ("image,labels\na.jpg,scab\nb.jpg,rust complex\n", None),
        ("image,label\na.jpg,scab\nb.jpg,rust\n", "columns"),
        ("image,labels\nb.jpg,scab\na.jpg,rust\n", "order"),
        ("image,labels\na.jpg,scab\na.jpg,rust\n", "more than once"),
        ("image,labels\na.jpg,scab\n", "not those of"),
        ("image,labels\na.jpg,scab\nc.jpg,rust\n", "not those of"),
        ("image,labels\na.jpg,scab\nb.jpg,rust rust\n", "twice"),
        ("image,labels\na.jpg,scab\nb.jpg,\n", "empty cell"),
        ("image,labels\na.jpg,scab\nb.jpg,rst\n", "empty or unknown"),
    ],
)
def test_a_submission_that_kaggle_would_not_score_is_found(tmp_path, rows, wrong):
    (tmp_path / "submission.csv").write_text(rows)
    check = check_submission(tmp_path / "submission.csv", FORM, SPEC)
    assert check.passed is (wrong is None) and (wrong is None or wrong in check.detail)


def test_an_unreadable_test_image_costs_its_own_row_only(project, tmp_path):
    raw, bundle = tmp_path / "raw", project / "models/best"
    shutil.copytree(project / "data/raw/sample", raw)
    whole, problems = predict_submission(bundle, raw)
    assert problems == []
    damaged = raw / "test_images" / whole["image"][2]
    damaged.write_bytes(damaged.read_bytes()[:300])
    partial, problems = predict_submission(bundle, raw)
    assert len(problems) == 1 and damaged.name in problems[0]
    fallback = np.array(LABELS)[Predictor(bundle).fallback[0]]
    assert partial["labels"][2] == " ".join(fallback)
    assert partial.drop(2).equals(whole.drop(2))


def test_test_images_that_kaggle_ships_packed_are_unpacked(project, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(project / "data/raw/sample", raw)
    whole, _ = predict_submission(project / "models/best", raw)
    for below in ("", "test_images/"):
        with zipfile.ZipFile(tmp_path / "test_images.zip", "w") as archive:
            for path in (project / "data/raw/sample/test_images").iterdir():
                archive.write(path, f"{below}{path.name}")
        shutil.rmtree(raw / "test_images", ignore_errors=True)
        shutil.copyfile(tmp_path / "test_images.zip", raw / "test_images.zip")
        packed, problems = predict_submission(project / "models/best", raw)
        assert problems == [] and packed.equals(whole)


def cut_images(raw):
    for path in (raw / "test_images").iterdir():
        path.write_bytes(path.read_bytes()[:300])


def second_form(raw):
    (raw / "stage_2").mkdir()
    (raw / "stage_2/sample_submission.csv").write_text("image,labels\na.jpg,rust\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm, detail",
    [
        (
            cut_images,
            "8 of 8 images cannot be read, first .*/test_images has 8 files .8 with .jpg., such as .* of 300 b",
        ),
        (
            second_form,
            "sample_submission.csv: .*/sample/sample_submission.csv, .*/sample/stage_2/sample_submission.csv",
        ),
    ],
)
def test_a_kernel_stops_where_nothing_can_be_read_and_where_two_forms_fit(project, root, harm, detail):
    raw = Path(shutil.copytree(project / "data/raw/sample", root / "raw"))
    harm(raw)
    done = stage("rehearse", root, project, f"paths.raw={raw}")
    assert done.returncode == 1 and re.search(detail, rehearsal(root)["checks"]["runs"]), done.stdout


FIND = "".join(json.loads((PROJECT / NOTEBOOK).read_text())["cells"][3]["source"])
SPEC_TEXT = '{"test": {"form": "form.csv"}}'


@pytest.mark.parametrize(
    "files, found",
    [
        ({"sample/form.csv": "a", "b/bundle.json": SPEC_TEXT}, "sample b"),
        (
            {"competitions/sample/form.csv": "a", "datasets/me/b/bundle.json": SPEC_TEXT},
            "competitions/sample datasets/me/b",
        ),
        # Kaggle mounts each in both places.
        (
            {f"{place}sample/form.csv": "a" for place in ("", "competitions/")}
            | {f"{place}b/bundle.json": SPEC_TEXT for place in ("", "datasets/me/")},
            "competitions/sample datasets/me/b",
        ),
        ({"sample/form.csv": "a", "b/bundle.json": SPEC_TEXT, "old/bundle.json": "{}"}, "sample b"),
        ({"sample/form.csv": "a", "old/bundle.json": "{}"}, "0 instead of one of these fit as bundle"),
        ({"sample/form.csv": "a"}, "0 instead of one of these fit as bundle .*: nothing below"),
        (
            {"b/bundle.json": SPEC_TEXT, "c/bundle.json": SPEC_TEXT, "sample/form.csv": "a"},
            "2 instead of one of these .*b/b.*c/b",
        ),
        (
            {"sample/form.csv": "a", "other/form.csv": "b", "b/bundle.json": SPEC_TEXT},
            "2 instead of .* form.csv: .*other/form.*",
        ),
        (
            {"sample/form.csv": "a", "other/form.csv": "a", "b/bundle.json": SPEC_TEXT},
            "2 instead of .* form.csv: .*other/form.*",
        ),
        (
            {"another/form.csv": "a", "b/bundle.json": SPEC_TEXT},
            "0 instead of .* fit as sample/form.csv: .*/another/form.csv",
        ),
    ],
)
def test_the_kernel_takes_its_own_competition_and_its_own_bundle(tmp_path, monkeypatch, files, found):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("KAGGLE_INPUT", str(tmp_path))
    monkeypatch.setattr("sys.path", list(sys.path))
    namespace = {"COMPETITION": "sample", "BUNDLE": bytes_hash(SPEC_TEXT.encode())}
    program = "import json, os, sys\nfrom hashlib import sha256\nfrom pathlib import Path\n" + FIND
    if "instead" in found:
        with pytest.raises(RuntimeError, match=found):
            exec(program, namespace)
    else:
        exec(program, namespace)
        taken = [namespace[name].relative_to(tmp_path).as_posix() for name in ("competition", "bundle")]
        assert taken == found.split()


def test_a_kernel_that_reads_no_test_image_fails(project, root):
    """With a wrong path or format of the test images every row is the fallback, which looks like a submission."""
    fault = "print(*(f'unreadable, gets the most frequent answer: {image}' for image in table['image']), sep=chr(10))"
    plant(root, project, fault)
    assert stage("rehearse", root, project, "rehearse.images=100").returncode == 1
    assert "8 of 8 images could not be read" in rehearsal(root)["checks"]["readable"]


def alone(bundle, member, folder):
    """A bundle of one member of another bundle."""
    shutil.copytree(bundle, folder)
    change_bundle(folder, members=[member | {"weight": 1.0}])
    return Predictor(folder)


def test_each_network_of_the_bundle_predicts_what_its_run_measured(project, tmp_path):
    """Through the kernel's own code, views included, the validation images give the probabilities that were stored."""
    spec = json.loads((project / "models/best/bundle.json").read_text())
    assert sum(member["weight"] for member in spec["members"]) == pytest.approx(1)
    for member in spec["members"]:
        stored = read_predictions(project / "runs" / member["run"] / "validation.npz")
        paths = [project / "data/raw/sample/train_images" / name for name in stored.images]
        predicted = outputs(alone(project / "models/best", member, tmp_path / member["run"]), paths)
        np.testing.assert_allclose(predicted, stored.outputs, atol=1e-4)


def test_the_kernel_decides_labels_as_select_did_with_every_decision_rule(project, tmp_path):
    stored = read_predictions(project / "reports/predictions.npz")
    bundle, p = Predictor(project / "models/best"), stored.outputs
    assert (one_hot(bundle, p) == stored.chosen).all()
    labels, sets = len(LABELS), {}
    ways = {"likeliest": [], "thresholds": [0.9] * labels, "expected_f1": [1.0, 9.0] + [0.0] * (labels - 1)}
    for by, values in ways.items():
        shutil.copytree(project / "models/best", tmp_path / by)
        change_bundle(tmp_path / by, decision={"by": by, "values": values, "empty": False})
        sets[by] = one_hot(Predictor(tmp_path / by), p)
    assert (sets["likeliest"].sum(axis=1) == 1).all() and sets["thresholds"][p >= 0.9].all()
    # Shifted by 9, the first label is next to sure.
    assert sets["expected_f1"][:, 0].all() and not sets["thresholds"][:, 0].all()


def one_hot(bundle, probabilities):
    """The labels of a submission, (n, labels)."""
    cells = bundle.answers.cells(bundle.decision.decide(probabilities), ["labels"])["labels"]
    return MultiLabelBinarizer(classes=LABELS).fit_transform([cell.split() for cell in cells])


def outputs(bundle, paths):
    """The outputs for images, all of which can be read."""
    return np.concatenate([predicted for _, predicted in bundle.outputs(paths)])


def test_two_devices_predict_what_one_does_in_the_same_order(project, monkeypatch):
    """Each has networks of its own, and batches come back in order; one image cannot be read."""
    monkeypatch.setattr("plant_pathology.inference.predictor.BATCH_SIZE", 3)
    bundle, folder = project / "models/best", project / "data/raw/sample/train_images"
    paths = [*sorted(folder.iterdir())[:10], bundle / "bundle.json", *sorted(folder.iterdir())[10:14]]
    one, two = Predictor(bundle), Predictor(bundle, ["cpu", "cpu"])
    assert two.networks[0] is not two.more_devices[0][1][0]
    for (errors, predicted), (expected, alone) in zip(two.outputs(paths), one.outputs(paths), strict=True):
        assert list(map(str, errors)) == list(map(str, expected))
        np.testing.assert_array_equal(predicted, alone)


def test_half_precision_is_used_where_it_changes_no_decision_and_left_where_it_overflows(project, tmp_path, capsys):
    bundle, paths = project / "models/best", sorted((project / "data/raw/sample/test_images").iterdir())
    full, half = Predictor(bundle), Predictor(bundle, half=True)
    assert half.half and not full.half and "predicts in half precision" in capsys.readouterr().out
    difference = abs(outputs(full, paths) - outputs(half, paths)).max()
    assert 0 < difference < 0.01
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    for weights in broken.glob("*.safetensors"):
        state = load_file(weights)
        state["conv1.0.weight"] *= 1e8  # which batch normalization undoes in 32 bits, with means and variances to match
        state["conv1.1.running_mean"] *= 1e8
        state["conv1.1.running_var"] *= 1e16
        save_file(state, weights)
    change_bundle(broken, files={path.name: file_hash(path) for path in broken.iterdir() if path.name != "bundle.json"})
    refused = Predictor(broken, half=True)
    assert not refused.half and "predicts in full precision" in capsys.readouterr().out
    np.testing.assert_allclose(outputs(refused, paths), outputs(full, paths), atol=1e-3)


class Overflowing(torch.nn.Module):
    """A network with no finite number for one image, and for none in half precision."""

    def __init__(self, network: torch.nn.Module, only_half: bool):
        super().__init__()
        self.network, self.only_half = network, only_half

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        if torch.is_autocast_enabled("cpu"):
            return logits * float("nan")
        if not self.only_half:
            logits[2] = float("inf")
        return logits


@pytest.mark.parametrize("only_half", [True, False])
def test_an_image_without_finite_numbers_is_predicted_in_full_precision_or_counts_as_unreadable(project, only_half):
    paths = sorted((project / "data/raw/sample/test_images").iterdir())
    predictor = Predictor(project / "models/best")
    expected, _ = predictor.cells(paths, ["labels"])
    predictor.networks = [Overflowing(network, only_half) for network in predictor.networks]
    predictor.half = True
    cells, problems = predictor.cells(paths, ["labels"])
    fallback = predictor.answers.cells(predictor.fallback, ["labels"])["labels"]
    if only_half:
        assert (cells, problems) == (expected, [])
    else:
        assert cells["labels"] == [*expected["labels"][:2], *fallback, *expected["labels"][3:]]
        assert problems == [f"{paths[2]}: the networks give no finite numbers for it"]


def test_members_are_averaged_by_weight_each_at_its_own_size(project, tmp_path):
    bundle = project / "models/best"
    member = json.loads((bundle / "bundle.json").read_text())["members"][0]
    small = member | {"image_size": 16, "views": 1}
    paths = sorted((project / "data/raw/sample/test_images").iterdir())
    one, other = (alone(bundle, each, tmp_path / str(each["image_size"])) for each in (member, small))
    both = alone(bundle, member, tmp_path / "both")
    both.spec["members"] = [member | {"weight": 0.75}, small | {"weight": 0.25}]
    both.networks, both.sides = one.networks + other.networks, [16, 32]
    first, second, mean = (outputs(each, paths) for each in (one, other, both))
    assert abs(first - second).max() > 0.001
    np.testing.assert_allclose(mean, 0.75 * first + 0.25 * second, atol=1e-6)
