"""README.md as somebody types it: its commands run, and what it shows is what they print."""

import re
import shlex

import pytest

from support.commands import PROJECT, git, replace, run_in
from support.local_kaggle import environment, local_kaggle, zipped
from support.stores import BUCKET

BLOCKS = re.findall(r"```console\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
WITHOUT_AN_END = "make tensorboard"  # serves until it is stopped


def typed(block):
    """The commands of a block, without prompts and comments."""
    return re.findall(r"^\$ (.*?)(?: +#.*)?$", block, re.MULTILINE)


def shape(line):
    """A line without what differs from run to run: numbers, and the room that they take."""
    return re.sub(r" +", " ", re.sub(r"\d[\d.]*", "#", line)).strip()


def test_make_repro_prints_what_is_shown(project):
    assert typed(BLOCKS[0])[0] == "make repro"
    shown, printed = BLOCKS[0].splitlines(), run_in(project, "python", "-m", "plant_pathology.summary").splitlines()
    # This project has an owner.
    shown = [line for line in shown if "set package.owner" not in line and not line.startswith("$")]
    for part in (header, labels, rehearsal, ending):
        assert part(printed) == part(shown)


def header(lines):
    return next(line.replace("┃", " ").split() for line in lines if line.startswith("┃"))


def labels(lines):
    return [line.split()[0] for line in lines if re.match(r"[a-z]", line)]


def rehearsal(lines):
    first = next(number for number, line in enumerate(lines) if line.startswith("rehearsal"))
    return [shape(line) for line in lines[first : first + 4]]


def ending(lines):
    first = next(number for number, line in enumerate(lines) if line.startswith("report "))
    return [line.rstrip() for line in lines[first:]]


MAKE = ("make", "-o", ".venv/ready", "VENV_PYTHON=python")  # with the environment of the tests


def steps(start):
    """The commands of the line that begins so."""
    (line,) = (line for block in BLOCKS for line in typed(block) if line.startswith(start))
    return [shlex.split(step) for step in line.split(" && ")]


def test_the_competition_is_downloaded_and_chosen(project, raw, tmp_path, monkeypatch):
    run_in(tmp_path, "cp", "-a", str(project), "checkout")
    download, repro = steps("make download")
    assert repro == ["make", "repro"]
    content = {path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    name = "plant-pathology-2021-fgvc8"
    with local_kaggle(competition=name, archive=zipped(content)) as kaggle:
        for key, value in environment(tmp_path, kaggle).items():
            monkeypatch.setenv(key, value)
        run_in(tmp_path / "checkout", *MAKE, *download[1:])
    assert f"competition: {name} " in (tmp_path / "checkout/conf/choices.yaml").read_text()
    plan = run_in(tmp_path / "checkout", "dvc", "repro", "--dry")
    assert "Running stage 'prepare'" in plan and (tmp_path / "checkout/data/raw" / name / "train.csv").exists()


@pytest.mark.slow
def test_a_second_machine_has_the_results_and_repeats_nothing(project, tmp_path, monkeypatch):
    """With a folder in the place of a bucket, for which DVC needs another package."""
    run_in(tmp_path, "cp", "-a", str(project), "checkout")
    monkeypatch.setenv("HOME", str(tmp_path))
    git(tmp_path, "config", "--global", "user.email", "tester@example.org")
    git(tmp_path, "config", "--global", "user.name", "tester")
    checkout, there = tmp_path / "checkout", tmp_path / "there"
    remote, *others = steps("make remote")
    run_in(checkout, *MAKE, "remote", f"URL={tmp_path / 'shared'}")
    assert remote[:2] == ["make", "remote"]
    for command in others:
        run_in(checkout, *command)
    run_in(tmp_path, "git", "clone", "-q", str(checkout), str(there))
    run_in(there, *MAKE, "pull")
    output = run_in(there, *MAKE, "-o", "data/raw/sample", "repro")
    assert "Running stage" not in output
    assert (there / "reports/index.html").read_bytes() == (checkout / "reports/index.html").read_bytes()


@pytest.mark.slow
def test_the_sweeps_elsewhere_are_planned_as_they_are_typed(project, tmp_path, s3, monkeypatch):
    run_in(tmp_path, "cp", "-a", str(project), "checkout")
    checkout = tmp_path / "checkout"
    monkeypatch.setenv("HOME", str(tmp_path))  # without the credentials of whoever runs the tests
    place = [f"store.uri=s3://{BUCKET}/readme", f"store.endpoint_url={s3.url}"]
    run_in(checkout, "python", "-m", "plant_pathology.datastore", "push", "store=s3", *place)
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "as it is")
    commands = [command for block in BLOCKS for command in typed(block) if "hydra/launcher=" in command]
    sky, kaggle = (shlex.split(command.replace("<bucket>/<prefix>", f"{BUCKET}/readme")) for command in commands)
    dry = ["hydra.launcher.dry_run=true", "model=resnet18,resnet34"]
    tasks = run_in(checkout, *sky, *dry, place[1])
    assert len(set(re.findall(r"^name: (resnet\d+-lr\S+)", tasks, re.MULTILINE))) == 8
    assert "8 runs in 1 session of 2 at once" in run_in(checkout, *kaggle, *dry)


@pytest.mark.slow
def test_every_command_of_the_last_block_runs_as_it_stands_there(project, tmp_path):
    run_in(tmp_path, "cp", "-a", str(project), "checkout")
    checkout = tmp_path / "checkout"
    replace(checkout / "conf/params.yaml", "  folds: 2 ", "  folds: 1 ")
    git(checkout, "config", "user.email", "tester@example.org")  # `dvc exp run` commits
    git(checkout, "config", "user.name", "tester")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "results")
    commands = typed(BLOCKS[-1])
    assert commands.pop() == WITHOUT_AN_END and len(commands) == 5
    outputs = [run_in(checkout, *shlex.split(command)) for command in commands]
    one, sweep, _, experiment, watch = outputs
    assert re.search(r"convnext_tiny-lr0.0003-\w+: sample_f1", one)
    assert len(set(re.findall(r"(resnet\d+-lr\S+): finished", sweep))) == 4
    assert "Running stage 'train'" in experiment and "Running stage 'prepare'" not in experiment
    assert "finished" in watch
