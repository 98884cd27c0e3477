"""The synthetic sample competition, and the check of a competition's config."""

import hashlib

import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from plant_pathology.competition.sample import LABEL_SETS, draw
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from support.commands import config, run_module


def test_the_sample_has_kaggle_s_layout(raw):
    assert {path.name for path in raw.iterdir()} == {
        "train.csv",
        "train_images",
        "test_images",
        "sample_submission.csv",
    }
    train, form = pd.read_csv(raw / "train.csv"), pd.read_csv(raw / "sample_submission.csv")
    assert list(train.columns) == list(form.columns) == ["image", "labels"]
    assert set(train["image"]) == {path.name for path in (raw / "train_images").iterdir()}
    assert set(form["image"]) == {path.name for path in (raw / "test_images").iterdir()}
    assert set(form["labels"]) == {"healthy"}


def test_every_label_set_occurs(raw):
    assert set(LABEL_SETS) <= set(pd.read_csv(raw / "train.csv")["labels"])


def test_equal_seeds_draw_equal_bytes(raw, tmp_path):
    draw(tmp_path / "again", seed=0, train=60, test=8)
    hashes = [
        {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}
        for folder in (raw, tmp_path / "again")
    ]
    assert hashes[0] == hashes[1]


def test_the_defects_of_real_data_occur(raw):
    table = pd.read_csv(raw / "train.csv", index_col="image")["labels"]
    images = {path.name: Image.open(path) for path in (raw / "train_images").iterdir()}
    modes = {image.mode for image in images.values()}
    assert {"RGB", "L", "CMYK"} <= modes
    assert any(image.format == "PNG" for image in images.values())
    assert any(image.getexif().get(0x0112) == 6 for image in images.values())
    contents = pd.Series({path.name: path.read_bytes() for path in (raw / "train_images").iterdir()})
    twins = contents[contents.duplicated(keep=False)]
    assert len(twins) == 8
    for _, pair in twins.groupby(twins):
        assert table[pair.index].nunique() == 2, "the same picture has two labels"


def test_a_real_competition_is_not_drawn(tmp_path):
    done = run_module("sample", "competition=plant-pathology-2021-fgvc8", cwd=tmp_path)
    assert done.returncode == 1 and "make download" in done.stderr
    assert not (tmp_path / "data").exists()


def test_existing_data_is_not_overwritten(raw):
    before = (raw / "train.csv").stat().st_mtime_ns
    done = run_module("sample", "competition=sample", f"paths.raw={raw}", cwd=raw)
    assert done.returncode == 0 and "exists already" in done.stdout
    assert (raw / "train.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("removed", ["title", "metric"])
def test_a_missing_key_of_a_competition_file_is_named(removed):
    cfg = config()
    values = {key: value for key, value in cfg.competition.items() if key != removed}
    with pytest.raises(UserError, match=rf"sample\.yaml: add the missing {removed}"):
        Competition.from_config(OmegaConf.create({"competition": values, "paths": {"code": "."}}))
