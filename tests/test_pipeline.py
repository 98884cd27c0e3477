"""The whole pipeline by a real `dvc repro`, in a committed copy of this checkout."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from plant_pathology.choose import with_choice
from plant_pathology.core.one_command import LOCK
from plant_pathology.runs.folder import CHECKPOINTS
from support.commands import git, replace, run_in

STAGES = ["prepare", "push", "train", "select", "package", "rehearse", "report", "verdict"]


@pytest.fixture
def checkout(project, tmp_path):
    """The finished project, to change."""
    shutil.copytree(project, tmp_path / "checkout", symlinks=True)
    return tmp_path / "checkout"


def changed(project):
    return list(json.loads(run_in(project, "dvc", "status", "--json")))


def ran(output):
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


def results(project):
    """The bytes of what people look at, by folder and file."""
    folders = ("models/best", "kernels/dataset", "kernels/submission", "reports")
    return {name: {each.name: each.read_bytes() for each in files(project / name)} for name in folders}


def files(folder):
    return [each for each in sorted(folder.iterdir()) if each.is_file() and each.name != LOCK]


def test_every_stage_ran_and_a_second_repro_has_nothing_to_do(project):
    assert list(yaml.safe_load((project / "dvc.lock").read_text())["stages"]) == STAGES
    assert changed(project) == []
    assert ran(run_in(project, "dvc", "repro")) == []


@pytest.mark.slow
def test_the_package_alone_lists_the_commands_in_order_with_their_state_and_the_next_one(checkout):
    def shown(*overrides):
        lines = run_in(checkout, *overrides, "python", "-m", "plant_pathology").splitlines()
        states = [line.split()[:2] for line in lines if line.split()[:1] in (["done"], ["changed"], ["missing"])]
        return states, lines[-1], lines

    commands = ["prepare", "datastore", "train", "select", "package", "rehearse", "report", "summary"]
    states, following, lines = shown()
    assert states == [["done", name] for name in commands] and following == "next: python -m plant_pathology.submit"
    assert any(line.split()[:2] == ["monitor", "Monitor:"] for line in lines)
    replace(checkout / "conf/params.yaml", "  owner: tester", "  owner: somebody")
    shutil.rmtree(checkout / "reports/rehearsal")
    states, following, lines = shown("env", "COLUMNS=40", "FORCE_COLOR=1", "NO_COLOR=1")
    assert [state for state, _ in states] == ["done"] * 4 + ["changed", "missing", "changed", "changed"]
    assert following == "next: make repro, or this stage alone: python -m plant_pathology.package"
    assert any("conf/params.yaml: package" in line for line in lines) and not any("\033[3" in line for line in lines)
    durations = checkout / "logs/durations.json"
    assert set(json.loads(durations.read_text())) == set(STAGES) - {"verdict"}
    assert re.search(r"\npackage: took \d+ s the last time\n", run_in(checkout, "dvc", "repro", "package"))
    durations.write_text("damaged")
    assert "the last time" not in run_in(checkout, "dvc", "repro", "--force", "--single-item", "package")
    assert list(json.loads(durations.read_text())) == ["package"]
    (checkout / "dvc.lock").unlink()
    assert "made without DVC" in "".join(shown()[2])


def test_touching_the_readme_reruns_nothing(checkout):
    (checkout / "README.md").write_text("something else\n")
    assert changed(checkout) == []


def test_what_python_editors_and_desktops_leave_in_folders_reruns_nothing(checkout):
    core = checkout / "src/plant_pathology/core"
    assert list(core.glob("__pycache__/*.pyc"))  # of this Python; another one adds its own
    (core / "__pycache__/app.cpython-399.pyc").touch()
    (core / ".app.py.swp").touch()
    for folder in ("conf", "data/raw/sample", "data/raw/sample/train_images", "competitions"):
        (checkout / folder / ".DS_Store").touch()
        (checkout / folder / "._a.jpg").touch()
    assert changed(checkout) == []


@pytest.mark.parametrize(
    ("group", "choice", "inherited", "stages"),
    [
        ("machine", "cpu-bf16", "machine/cpu.yaml", ["prepare", "train", "select", "package", "rehearse"]),
        ("recipe", "mine", "recipe/base.yaml", ["prepare", "train", "select", "package", "rehearse"]),
        ("store", "s3", "store/file.yaml", ["push"]),
    ],
)
def test_a_choice_and_what_the_chosen_file_inherits_rerun_the_stages_that_read_it(
    checkout, group, choice, inherited, stages
):
    (checkout / "conf/recipe/base.yaml").write_text("# @package _global_\nmodel: {lr: 1e-3}\n")
    (checkout / "conf/recipe/mine.yaml").write_text("defaults: [base, _self_]\n")
    run_in(checkout, "dvc", "commit", "--force")
    choices = checkout / "conf/choices.yaml"
    choices.write_text(with_choice(choices.read_text(), group, choice))
    assert changed(checkout) == stages
    run_in(checkout, "dvc", "commit", "--force")
    assert changed(checkout) == []
    with (checkout / "conf" / inherited).open("a") as file:
        file.write("# another value\n")
    assert changed(checkout) == stages


@pytest.mark.slow
def test_a_file_that_a_key_names_is_watched_in_data_extra_and_elsewhere_that_it_is_not_is_said(checkout):
    def rehearsed():
        return run_in(checkout, "dvc", "repro", "--single-item", "rehearse")

    images = next((checkout / "data/raw/sample").glob("*test*/"))
    shutil.copytree(images, checkout / "hidden")
    named = "  test_images: hidden"
    replace(checkout / "conf/params.yaml", "  test_images: null", named)
    assert "rehearse.test_images=hidden: DVC does not watch it: put it below " in rehearsed()
    (checkout / "hidden").rename(checkout / "data/extra/hidden")
    replace(checkout / "conf/params.yaml", named, "  test_images: data/extra/hidden")
    assert "does not watch" not in rehearsed()
    next((checkout / "data/extra/hidden").iterdir()).unlink()
    assert {"train", "rehearse"} <= set(changed(checkout))
    source = next(checkout.glob("runs/*/best.ckpt"))
    shutil.copy(source, checkout / "w.ckpt")
    replace(checkout / "conf/params.yaml", "  init_from: null", "  init_from: w.ckpt")
    assert "model.init_from=w.ckpt: DVC does not watch it" in run_in(checkout, "dvc", "repro", "--single-item", "train")


@pytest.mark.slow
def test_data_whose_version_was_removed_from_the_store_is_pushed_again(checkout):
    """Not "cached": DVC's cache has the pointer to that version, and knows nothing of the store."""
    machine, pointer = checkout / "conf/machine/cpu.yaml", checkout / "datastore.json"
    first = json.loads(pointer.read_text())
    replace(machine, "image_size: 32", "image_size: 40")
    run_in(checkout, "dvc", "repro", "push")
    run_in(checkout, "python", "-m", "plant_pathology.datastore", "rm", f"data.ref={first['ref']}")
    replace(machine, "image_size: 40", "image_size: 32")
    run_in(checkout, "dvc", "repro", "train")
    again = json.loads(pointer.read_text())
    assert again["ref"] != first["ref"] and again["sha256"] == first["sha256"]


def test_another_learning_rate_reruns_the_sweep_and_after(checkout):
    """By DVC's own plan: the next test sees it carried out."""
    replace(checkout / "conf/params.yaml", "  lr: 1e-3,1e-2", "  lr: 1e-2,2e-2")
    assert changed(checkout) == ["train"]
    assert ran(run_in(checkout, "dvc", "repro", "--dry", "--force-downstream")) == STAGES[2:]


@pytest.mark.parametrize(
    "name, content, told",
    [("dvc.lock", "{", "dvc.lock' is invalid"), ("dvc.yaml", "stages: [", "dvc.yaml' is invalid")],
)
def test_make_repro_says_what_dvc_refuses_also_in_a_folder_that_came_without_git(checkout, name, content, told):
    shutil.rmtree(checkout / ".git")
    (checkout / name).write_text(content)
    command = ("make", "-o", ".venv/ready", "-o", "data/raw/sample", "VENV_PYTHON=python", "repro")
    output = run_in(checkout, *command, expect=2)
    assert told in output and "git init: this folder is no git repository yet" in output
    assert "git init" not in run_in(checkout, *command, expect=2)


@pytest.mark.slow
def test_another_vocabulary_is_an_experiment_that_reruns_all_and_an_old_commit_brings_its_bundle_back(checkout):
    """Here, and on a second machine that has a clone and what was pushed, but not the raw images."""
    run_in(checkout, "python", "-m", "plant_pathology.remote", str(checkout.parent / "shared"))
    git(checkout, "add", "dvc.lock")
    git(checkout, "commit", "-qam", "first")
    first, second = results(checkout), checkout.parent / "second machine"
    labels = "conf/competition/sample.yaml:competition.target.labels=[something_new,complex,frog_eye_leaf_spot,healthy,"
    labels += "powdery_mildew,rust,scab]"
    lr = "conf/params.yaml:sweep.lr='1e-2,2e-2'"
    output = run_in(checkout, "dvc", "exp", "run", "-S", labels, "-S", lr)
    assert ran(output) == STAGES
    assert "prepare: decode the raw images once" in output and "; made models/best (" in output
    assert sorted(pd.read_csv(checkout / "reports/leaderboard.csv")["lr"]) == [0.01, 0.02]
    assert "something_new" in json.loads((checkout / "models/best/bundle.json").read_text())["answers"]["labels"]
    newest = results(checkout)
    assert newest["kernels/submission"] != first["kernels/submission"]
    git(checkout, "commit", "-qam", "second")
    left = checkout / "runs" / "interrupted" / CHECKPOINTS / "7.ckpt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"to continue from")
    assert changed(checkout) == []
    run_in(checkout, "dvc", "push", "--all-commits")
    git(checkout, "clone", "-q", ".", str(second))
    git(checkout, "checkout", "-q", "HEAD^")
    run_in(checkout, "dvc", "checkout")
    assert changed(checkout) == [] and results(checkout) == first
    for version, commit in ((newest, "HEAD"), (first, "HEAD^")):
        git(second, "checkout", "-q", commit)
        run_in(second, "make", "-o", ".venv/ready", "VENV_PYTHON=python", "pull")
        output = run_in(second, "make", "-o", ".venv/ready", "-o", "data/raw/sample", "VENV_PYTHON=python", "repro")
        assert "made" not in output and "rehearsal  passed" in output
        alone = run_in(second, "python", "-m", "plant_pathology")
        assert alone.count("the raw images are not here") == 3 and "next: python -m plant_pathology.submit" in alone
        assert git(second, "status", "--porcelain") == "" and results(second) == version
    assert not (second / "store").exists() and not list(second.glob(f"runs/*/{CHECKPOINTS}"))
    pointer = (second / "datastore.json").read_bytes()
    run_in(second, "python", "-m", "plant_pathology.datastore", "push")
    assert (second / "datastore.json").read_bytes() == pointer


@pytest.mark.slow
def test_dvc_s_own_tools_show_the_figures(project):
    assert "rehearse" in run_in(project, "dvc", "dag")
    metrics = json.loads(run_in(project, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert 0 < metrics["reports/metrics.json"]["data"]["score"] <= 1
    assert metrics["reports/rehearsal.json"]["data"]["verdict"] == "passed"
    page = run_in(project, "dvc", "plots", "show", "--out", "plots").strip().removeprefix("file://")
    shown = Path(page).read_text()
    assert "Leaderboard" in shown
    assert all(f"{name}.svg" in shown for name in ("grid", "curves", "labels", "sets"))


def test_reports_of_the_sample_say_so(project):
    assert "embedded sample" in (project / "reports/figures/grid.svg").read_text()
    assert "Synthetic sample" in (project / "reports/index.html").read_text()
    assert json.loads((project / "reports/metrics.json").read_text())["synthetic"] is True
    assert json.loads((project / "reports/rehearsal.json").read_text())["synthetic"] is True
    assert ",sample" in (project / "reports/leaderboard.csv").read_text()
    assert "embedded sample, not real images" in run_in(project, "python", "-m", "plant_pathology.summary")


def test_the_summary_ends_with_the_command_that_submits(project):
    summary = run_in(project, "python", "-m", "plant_pathology.summary")
    assert "rehearsal  passed" in summary
    assert "python -m plant_pathology.submit" in summary


def test_the_raw_images_are_not_copied(project):
    image = next((project / "data/raw/sample/train_images").iterdir()).read_bytes()
    for kept in (".dvc/cache", "data/prepared", "store"):
        assert not any(path.is_file() and path.read_bytes() == image for path in (project / kept).rglob("*"))


@pytest.mark.slow
def test_the_notebooks_for_people_run_on_the_results(checkout):
    """All in one process; the notebook of the kernel is rehearsed."""
    program = """if True:
        import json, sys
        for name in sys.argv[1:]:
            cells = json.load(open(name, encoding="utf-8"))["cells"]
            exec("\\n".join("".join(each["source"]) for each in cells if each["cell_type"] == "code"), {})
    """
    names = [str(path) for path in sorted((checkout / "notebooks").glob("*.ipynb")) if path.stem != "submission"]
    assert len(names) == 4
    run_in(checkout, "env", "MPLBACKEND=agg", "python", "-c", program, *names)
    assert len(pd.read_csv(checkout / "reports/submission_by_hand.csv")) == 8


def test_a_failed_stage_stops_the_pipeline_with_its_reason(checkout):
    (checkout / "data/raw/sample/train.csv").unlink()
    output = run_in(checkout, "dvc", "repro", expect=255)
    assert "train.csv does not exist" in output and ran(output) == ["prepare"]
