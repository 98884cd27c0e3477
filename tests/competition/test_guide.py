"""Every example of docs/your-competition.md is a folder, and a file that describes it without an error."""

import re

import pytest
from omegaconf import OmegaConf
from PIL import Image

from plant_pathology.competition.form import check_form
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import read_train
from support.commands import PROJECT

GUIDE = (PROJECT / "docs/your-competition.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^### (\d+)\..*?^```text\n(.*?)^```\n.*?^```yaml\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def build(text, folder):
    """Write the files that an example shows, and an image at each of its paths."""
    *files, (_, images) = re.findall(r"^# (\S+)\n(.*?)(?=^# |\Z)", text, re.DOTALL | re.MULTILINE)
    for name, content in files:
        (folder / name).write_text(content)
    for number, path in enumerate(images.split()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 64), 20 + number).save(folder / path)


@pytest.mark.parametrize("number, folder, config", EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_an_example_is_true(number, folder, config, tmp_path):
    build(folder, tmp_path)
    competition = Competition.from_config(OmegaConf.merge(OmegaConf.create(config), {"paths": {"code": str(tmp_path)}}))
    train = read_train(competition, tmp_path)
    assert train.rows["present"].all() and not any(train.rows["problems"]) and not train.unlisted
    check_form(competition, tmp_path, train.labels)


def test_there_is_an_example_of_every_kind_and_every_form():
    described = [OmegaConf.create(config).competition for _, _, config in EXAMPLES]
    assert {each.target.kind for each in described} == {"one", "several", "ordinal", "number"}
    assert {each.submit["as"] for each in described} == {
        *("label", "labels", "ranking", "probability", "columns", "number")
    }
