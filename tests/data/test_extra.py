"""Extra rows train in every fold and never validate, and none of them shows a picture of the table."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image

from plant_pathology.competition.sample import draw
from plant_pathology.store.connect import open_version
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.data import StoredData
from support.commands import TINY, config, run_module


@pytest.fixture(scope="module")
def with_extra(raw, tmp_path_factory):
    """Return a folder with pushed data: the sample with 14 other drawn leaves, and two pictures of the table."""
    folder = tmp_path_factory.mktemp("extra")
    draw(folder / "other", seed=5, train=14, test=1)
    extra = folder / "data/extra"
    shutil.copytree(folder / "other/train_images", extra / "leaves")
    table = pd.read_csv(folder / "other/train.csv").drop_duplicates("image")
    table["image"] = "leaves/" + table["image"]
    known = pd.read_csv(raw / "train.csv")
    same, near = known.loc[known["labels"] == "rust", "image"].iloc[:2]
    shutil.copyfile(raw / "train_images" / same, extra / "same.jpg")
    with Image.open(raw / "train_images" / near) as image:
        image.convert("RGB").resize((150, 100)).save(extra / "near.jpg", quality=80)
    more = pd.DataFrame({"image": ["same.jpg", "near.jpg"], "labels": "rust"})
    pd.concat([more, table]).to_csv(extra / "more.csv", index=False)
    for command in (["prepare", "prepare.extra=more.csv"], ["datastore", "push"]):
        done = run_module(*command, *TINY, f"paths.raw={raw}", cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / f"{command[0]}.txt").write_text(done.stdout)
    return folder, table


def test_pictures_of_the_table_are_left_out_and_the_rest_is_counted(with_extra, pushed):
    folder, table = with_extra
    found, before = (json.loads((each / "data/prepared/manifest.json").read_text()) for each in (folder, pushed))
    assert (found["extra"]["rows"], found["extra"]["used"]) == (len(table) + 2, len(table))
    assert (
        f"{len(table)} extra images of more.csv train and never validate; 2 left out"
        in (folder / "prepare.txt").read_text()
    )
    assert {**found, "extra": None} == before, "counts are those of the table"
    index, alone = (pd.read_csv(each / "data/prepared/index.csv").set_index("image") for each in (folder, pushed))
    assert (index.loc[alone.index, ["fold", "group", "labels"]] == alone[["fold", "group", "labels"]]).all(axis=None)
    more = index.drop(alone.index)
    assert (more["fold"] == -1).all() and set(more.index) == set("extra:" + table["image"])
    assert more["labels"].to_dict() == dict(zip("extra:" + table["image"], table["labels"], strict=True))


@pytest.mark.parametrize("fold", [0, 3, "all"])
def test_they_train_in_every_fold_and_validate_in_none(with_extra, fold):
    folder, table = with_extra
    version = open_version(config(f"store.uri=file://{folder}/store", f"paths.root={folder}"))
    augment = Augment(flip=False, rotate=0, crop=1, brightness=0)
    data = StoredData(version, fold, 4, window=2, workers=0, augment=augment, seed=0)
    assert (data.training.column("fold") == -1).sum() == len(table)
    assert fold == "all" or set(data.validation.column("fold")) == {fold}
