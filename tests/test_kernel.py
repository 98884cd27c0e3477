"""What goes to Kaggle, and its rehearsal."""

import json
import shutil
import socket
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from conftest import config, git, run_module
from plant_pathology.competition import Competition
from plant_pathology.predict import Bundle, submission_of
from plant_pathology.rehearse import check_submission
from plant_pathology.sandbox import namespaces_work, run_kernel

COMPETITION = Competition.from_config(config())


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


def edit_last_cell(root, old, new):
    path = root / "kernels/submission/submission.ipynb"
    notebook = json.loads(path.read_text())
    source = "".join(notebook["cells"][-1]["source"])
    assert old in source
    notebook["cells"][-1]["source"] = [source.replace(old, new)]
    path.unlink()
    path.write_text(json.dumps(notebook))


def test_the_kernel_asks_for_what_it_needs_and_no_internet(project):
    kernel = metadata(project)
    assert kernel["enable_internet"] is False
    assert kernel["id"] == "tester/sample-submission" and kernel["title"].replace(" ", "-") == "sample-submission"
    assert kernel["dataset_sources"] == ["tester/sample-bundle"] and kernel["competition_sources"] == ["sample"]
    assert (project / "kernels/submission" / kernel["code_file"]).exists()
    dataset = json.loads((project / "kernels/dataset/dataset-metadata.json").read_text())
    assert dataset["id"] == kernel["dataset_sources"][0]


def test_from_the_metadata_alone_one_can_name_all_that_it_came_from(project):
    origin = metadata(project)["provenance"]
    locked = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert origin["commit"] == git(project, "rev-parse", "HEAD") and origin["uncommitted"] == []
    for stage_name in ("prepare", "push", "sweep", "select"):
        outs = {out["path"]: out["md5"] for out in locked[stage_name]["outs"]}
        assert origin["dvc_lock"][stage_name] == outs
    pointer = json.loads((project / "datastore.json").read_text())
    assert origin["data"] == {"ref": pointer["ref"], "sha256": pointer["sha256"]}
    for run in origin["runs"]:
        on_disk = yaml.safe_load((project / "runs" / run["run"] / "config.yaml").read_text())
        assert run["config"]["model"] == on_disk["model"]
    notebook = json.loads((project / "kernels/submission/submission.ipynb").read_text())
    assert notebook["metadata"]["provenance"] == origin


def test_a_hash_that_no_longer_holds_is_not_claimed(project, tmp_path):
    shutil.copytree(project, tmp_path / "checkout", symlinks=True)
    best = tmp_path / "checkout/models/best/bundle.json"
    changed = best.read_text().replace('"sample"', '"sample" ')
    best.unlink()
    best.write_text(changed)
    done = run_module("package", cwd=tmp_path / "checkout", PYTHONPATH="src")
    assert done.returncode == 0, done.stderr
    assert metadata(tmp_path / "checkout")["provenance"]["dvc_lock"] == {}


def test_the_same_bundle_gives_the_same_bytes(project, root):
    assert stage("package", root, project).returncode == 0
    first = {path.name: path.read_bytes() for path in (root / "kernels/dataset").iterdir()}
    assert stage("package", root, project).returncode == 0
    assert {path.name: path.read_bytes() for path in (root / "kernels/dataset").iterdir()} == first
    assert first == {path.name: path.read_bytes() for path in (project / "kernels/dataset").iterdir()}


def test_the_code_that_travels_is_only_what_predicts(project):
    wheel = next((project / "kernels/dataset").glob("plant_pathology-*.whl"))
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    assert names == {
        f"plant_pathology/{name}.py" for name in ("__init__", "images", "metrics", "predict", "symmetries")
    }


@pytest.mark.parametrize("override", ["package.kernel=Has_Capitals", "package.dataset=tiny", "package.owner=no/slash"])
def test_a_name_that_kaggle_would_refuse_is_refused_here(project, root, override):
    done = stage("package", root, project, override)
    assert done.returncode == 1 and override.split("=")[0] in done.stderr


def test_the_rehearsal_passes_offline_and_equal(project):
    report = rehearsal(project)
    assert report["verdict"] == "passed"
    assert set(report["checks"]) == {"runs", "offline", "imports", "submission", "equal"}
    form = pd.read_csv(project / "data/raw/sample/sample_submission.csv")
    assert pd.read_csv(project / "reports/submission.csv")["image"].tolist() == form["image"].tolist()


def test_another_test_set_can_be_rehearsed_and_scored(project, root):
    images = project / "data/raw/sample/train_images"
    solution = project / "data/raw/sample/train.csv"
    done = stage("rehearse", root, project, f"rehearse.test_images={images}", f"rehearse.solution={solution}")
    assert done.returncode == 0, done.stdout + done.stderr
    both = pd.read_csv(root / "reports/submission.csv").merge(pd.read_csv(solution), on="image")
    sets = MultiLabelBinarizer().fit(both["labels_y"].str.split())
    truth, ours = (sets.transform(both[column].str.split()) for column in ("labels_y", "labels_x"))
    assert rehearsal(root)["score"] == pytest.approx(f1_score(truth, ours, average="samples"))


@pytest.mark.parametrize(
    "old, new, check, detail",
    [
        ("print(versions())", "import hydra", "runs", "No module named 'hydra'"),
        ("print(versions())", "import urllib.request; urllib.request.urlopen('http://127.0.0.1')", "runs", "urlopen"),
        ('"submission.csv",\n)', '"result.csv",\n)', "submission", "no submission.csv"),
        (
            '"submission.csv",\n)',
            '"submission.csv",\n)\nprint(open("/kaggle/input/x", "w"))',
            "runs",
            "/kaggle/input/x",
        ),
    ],
)
def test_a_kernel_that_kaggle_would_fail_fails_here(project, root, old, new, check, detail):
    edit_last_cell(root, old, new)
    done = stage("rehearse", root, project)
    assert done.returncode == 1 and "the rehearsal failed" in done.stderr
    assert rehearsal(root)["verdict"] == "failed" and detail in rehearsal(root)["checks"][check]


def test_a_submission_that_differs_from_the_repository_s_predictions_fails(project, root):
    tamper = '\nlines = (working / "submission.csv").read_text().splitlines()\n'
    tamper += 'lines[1] = lines[1].split(",")[0] + ",complex rust scab"\n'
    tamper += '(working / "submission.csv").write_text("\\n".join(lines))'
    edit_last_cell(root, '"submission.csv",\n)', '"submission.csv",\n)' + tamper)
    assert stage("rehearse", root, project).returncode == 1
    assert "1 of 8 rows differ" in rehearsal(root)["checks"]["equal"]


SCRIPT = """
import probe, socket
print("imported", probe.__name__)
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=5)
except OSError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("isolation", ["namespace", "audit-hook"])
def test_a_kernel_sees_the_image_s_packages_wherever_they_lie_and_no_network(tmp_path, monkeypatch, isolation):
    if isolation == "namespace" and not namespaces_work():
        pytest.skip("this system allows no namespaces")
    packages, kernel, working = (tmp_path / name for name in ("packages", "kernel", "working"))
    for folder in (packages, kernel, working):
        folder.mkdir()
    (packages / "probe.py").touch()

    def link_probe(image):
        image.mkdir()
        (image / "probe.py").symlink_to(packages / "probe.py")

    monkeypatch.setattr("plant_pathology.sandbox.link_image", link_probe)
    (kernel / "kernel-metadata.json").write_text('{"code_file": "kernel.py"}')
    with socket.create_server(("127.0.0.1", 0)) as server:
        (kernel / "kernel.py").write_text(SCRIPT.format(port=server.getsockname()[1]))
        outcome = run_kernel(kernel, {"data": packages}, working, timeout_s=60, isolation=isolation)
    assert outcome.error is None, outcome.log
    assert outcome.isolation == isolation and not outcome.network
    assert "imported probe" in outcome.log and "refused" in outcome.log


FORM = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "labels": ["healthy", "healthy"]})


@pytest.mark.parametrize(
    "rows, wrong",
    [
        ("image,labels\na.jpg,scab\nb.jpg,rust complex\n", None),
        ("image,label\na.jpg,scab\nb.jpg,rust\n", "columns"),
        ("image,labels\nb.jpg,scab\na.jpg,rust\n", "order"),
        ("image,labels\na.jpg,scab\na.jpg,rust\n", "not those of"),
        ("image,labels\na.jpg,scab\n", "not those of"),
        ("image,labels\na.jpg,scab\nb.jpg,\n", "empty or unknown"),
        ("image,labels\na.jpg,scab\nb.jpg,rst\n", "empty or unknown"),
    ],
)
def test_what_kaggle_would_not_score_is_found(tmp_path, rows, wrong):
    (tmp_path / "submission.csv").write_text(rows)
    check = check_submission(tmp_path / "submission.csv", FORM, COMPETITION)
    assert check.passed is (wrong is None) and (wrong is None or wrong in check.detail)


def test_an_unreadable_test_image_costs_its_own_row_only(project, tmp_path):
    images, bundle = tmp_path / "images", project / "models/best"
    shutil.copytree(project / "data/raw/sample/test_images", images)
    form = project / "data/raw/sample/sample_submission.csv"
    whole, problems = submission_of(bundle, images, form)
    assert problems == []
    damaged = images / whole["image"][2]
    damaged.write_bytes(damaged.read_bytes()[:300])
    partial, problems = submission_of(bundle, images, form)
    assert len(problems) == 1 and damaged.name in problems[0]
    assert partial["labels"][2] == Bundle(bundle).spec["fallback"]
    assert partial.drop(2).equals(whole.drop(2))


def alone(bundle, member, folder):
    """A bundle of one member of another bundle."""
    shutil.copytree(bundle, folder)
    spec = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(spec | {"members": [member | {"weight": 1.0}]}))
    return Bundle(folder)


def test_each_network_of_the_bundle_predicts_what_its_run_measured(project, tmp_path):
    """Through the kernel's own code, views included, the validation images give the probabilities that were stored."""
    spec = json.loads((project / "models/best/bundle.json").read_text())
    assert sum(member["weight"] for member in spec["members"]) == pytest.approx(1)
    for member in spec["members"]:
        stored = pd.read_csv(project / "runs" / member["run"] / "validation.csv")
        paths = [project / "data/raw/sample/train_images" / name for name in stored["image"]]
        probabilities, _ = alone(project / "models/best", member, tmp_path / member["run"]).probabilities(paths)
        np.testing.assert_allclose(probabilities, stored.filter(regex="^p_"), atol=1e-4)


def test_members_are_averaged_by_weight_each_at_its_own_size(project, tmp_path):
    bundle = project / "models/best"
    member = json.loads((bundle / "bundle.json").read_text())["members"][0]
    small = member | {"image_size": 16, "views": 1}
    paths = sorted((project / "data/raw/sample/test_images").iterdir())
    one, other = (alone(bundle, each, tmp_path / str(each["image_size"])) for each in (member, small))
    both = alone(bundle, member, tmp_path / "both")
    both.spec["members"] = [member | {"weight": 0.75}, small | {"weight": 0.25}]
    both.networks, both.sides = one.networks + other.networks, [16, 32]
    (first, _), (second, _), (mean, _) = (each.probabilities(paths) for each in (one, other, both))
    assert abs(first - second).max() > 0.001
    np.testing.assert_allclose(mean, 0.75 * first + 0.25 * second, atol=1e-6)
