"""A fork takes later versions of the template by the commands of docs/your-competition.md, as they stand there."""

import re
import shlex
import shutil

import pytest

from plant_pathology.choose import with_choice
from support.commands import PROJECT, git, replace

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
