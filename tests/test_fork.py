"""A fork works by the steps of docs/your-competition.md: another competition, and later versions of the template."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from plant_pathology.choose import with_choice
from support.checkout import copy_checkout
from support.commands import PROJECT, git, replace, run_in

DRAWN = PROJECT.parent / "shared" / "competitions"
RECIPE = """# @package _global_
recipe: mine
prepare: {image_size: 32, encoding: raw}
model: {pretrained: false}
trainer: {max_epochs: 1}
train: {folds: 1}
sweep: {model: test_resnet, lr: 1e-2}
"""
PAGE = PROJECT / "docs" / "your-competition.md"
SECTION = "### Your settings, and later versions of this template"


def commands(address):
    """The lines of the two blocks of the section: those of a merge, and that of a repository without our history."""
    section = re.split(r"\n#+ ", PAGE.read_text(encoding="utf-8").partition(SECTION)[2])[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    lines = [re.findall(r"^\$ git (.*?)(?: +#.*)?$", block, re.MULTILINE) for block in blocks]
    return [[shlex.split(line.replace("<address of the template>", str(address))) for line in block] for block in lines]


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "change")


@pytest.mark.parametrize("history", [True, False], ids=["forked", "made from the template"])
def test_a_later_version_of_the_template_merges_without_a_conflict_in_conf(history, tmp_path):
    template, fork = tmp_path / "template", tmp_path / "my fork"
    shutil.copytree(PROJECT / "conf", template / "conf")
    git(template, "init", "-qb", "main")
    commit(template)
    (remote, fetch, merge), (begin,) = commands(shlex.quote(str(template)))
    if history:
        git(tmp_path, "clone", "-q", str(template), str(fork))
        git(fork, *remote)
    else:
        shutil.copytree(template / "conf", fork / "conf")
        git(fork, "init", "-qb", "main")
        commit(fork)
        git(fork, *remote)
        git(fork, *fetch)
        git(fork, *begin)

    own = fork / "conf/competition/flowers.yaml"
    own.write_text((fork / "conf/competition/sample.yaml").read_text() + "package: {owner: me}\n")
    shutil.copyfile(fork / "conf/recipe/ours.yaml", fork / "conf/recipe/mine.yaml")
    choices = fork / "conf/choices.yaml"
    choices.write_text(with_choice(with_choice(choices.read_text(), "competition", "flowers"), "recipe", "mine"))
    commit(fork)
    replace(template / "conf/params.yaml", "  batch_size: 32", "  batch_size: 64")
    with (template / "conf/recipe/ours.yaml").open("a") as file:
        file.write("# a later remark\n")
    (template / "conf/competition/later.yaml").write_text("# @package _global_\n")
    commit(template)

    git(fork, *fetch)
    git(fork, *merge)
    assert git(fork, "status", "--porcelain") == "" and "package: {owner: me}" in own.read_text()
    assert "flowers" in choices.read_text() and "mine" in choices.read_text()
    assert "batch_size: 64" in (fork / "conf/params.yaml").read_text()
    assert (fork / "conf/competition/later.yaml").exists()


@pytest.mark.slow
@pytest.mark.skipif(not DRAWN.is_dir(), reason=f"needs draw.py in {DRAWN}")
def test_another_competition_comes_to_a_rehearsed_kernel_without_a_line_of_python(tmp_path):
    name, fork = "cassava-leaf-disease-classification", tmp_path / "my fork"
    copy_checkout(fork)
    git(fork, "init", "-q")
    commit(fork)
    (fork / f"conf/competition/{name}.yaml").unlink()
    subprocess.run([sys.executable, DRAWN / "draw.py", name, fork / "data/raw"], check=True)
    make = ("make", "-o", ".venv/ready", "VENV_PYTHON=python", f"RAW=data/raw/{name}")
    run_in(fork, *make, "competition")
    with (fork / f"conf/competition/{name}.yaml").open("a") as file:
        file.write("package: {owner: tester}\nrehearse: {hidden_images: 500, images: 100}\n")
    (fork / "conf/recipe/mine.yaml").write_text(RECIPE)
    choices = fork / "conf/choices.yaml"
    for group, choice in (("competition", name), ("machine", "cpu"), ("recipe", "mine")):
        choices.write_text(with_choice(choices.read_text(), group, choice))
    output = run_in(fork, *make, "repro")
    assert "rehearsal  passed" in output and output.rstrip().endswith("python -m plant_pathology.submit")
    metadata = json.loads((fork / "kernels/submission/kernel-metadata.json").read_text())
    assert metadata["id"].startswith("tester/") and metadata["competition_sources"] == [name]
    assert {line.split()[1].split("/")[0] for line in git(fork, "status", "--porcelain").splitlines()} == {
        "conf",
        "dvc.lock",
    }
