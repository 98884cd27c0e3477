import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import run_module
from plant_pathology.index import read_table
from plant_pathology.prepare import duplicate_groups, folds
from plant_pathology.shards import Shards, shard_name


@pytest.fixture
def competition(raw, tmp_path):
    """A root folder with its own copy of the drawn competition, to damage."""
    shutil.copytree(raw, tmp_path / "data" / "raw" / "sample")
    return tmp_path


def prepare(root, *overrides):
    return run_module("prepare", "competition=sample", "prepare.image_size=32", *overrides, cwd=root)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_images_give_the_same_bytes_on_any_number_of_workers(competition):
    assert prepare(competition, "prepare.workers=1", "prepare.shard_mb=0.06").returncode == 0
    first = hashes(competition / "data" / "prepared")
    assert prepare(competition, "prepare.workers=3", "prepare.shard_mb=0.06").returncode == 0
    assert hashes(competition / "data" / "prepared") == first
    assert sum(name.startswith("images-") for name in first) == 4


def test_index_csv_says_where_each_image_s_pixels_are(competition):
    assert prepare(competition, "prepare.shard_mb=0.06", "machine=cpu").returncode == 0
    prepared = competition / "data" / "prepared"
    index = read_table(prepared / "index.csv")
    names = [shard_name(number, "raw") for number in index["shard"]]
    pixels = np.stack(list(Shards(lambda name: prepared / name).pixels(names, index["row"])))
    assert pixels.shape == (64, 32, 32, 3)
    plain = index[index["image"].duplicated(keep=False) == False].index[-1]  # noqa: E712
    source = Image.open(competition / "data/raw/sample/train_images" / index["image"][plain])
    assert abs(pixels[plain].mean() - np.asarray(source.convert("RGB")).mean()) < 12


def test_no_duplicate_crosses_folds_and_contradictory_labels_are_reported(competition):
    assert "with contradictory labels" in prepare(competition).stdout
    prepared = competition / "data" / "prepared"
    index = pd.read_csv(prepared / "index.csv").set_index("image")
    duplicates = json.loads((prepared / "manifest.json").read_text())["duplicates"]
    assert duplicates and any(pair["contradictory"] for pair in duplicates)
    for pair in duplicates:
        assert index.loc[pair["images"], "fold"].nunique() == 1


def test_folds_hold_about_equal_shares_of_every_label():
    rng = np.random.default_rng(0)
    targets = (rng.random((1000, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(int)
    groups = pd.Series(np.arange(1000))
    groups[::50] = 0
    fold = folds(targets, groups, 5, seed=0)
    counts = pd.DataFrame(targets).groupby(fold).sum()
    assert (counts.max() - counts.min() <= np.maximum(0.2 * counts.mean(), 5)).all()
    assert len(set(fold[::50])) == 1
    assert (folds(targets, groups, 5, seed=0) == fold).all()


def test_groups_are_named_after_their_first_image():
    assert duplicate_groups(pd.Series(["a", "b", "a", "c", "b"])).tolist() == [0, 1, 0, 3, 1]


def remove_table(raw):
    (raw / "train.csv").unlink()


def misspell_label(raw):
    text = (raw / "train.csv").read_text()
    (raw / "train.csv").write_text(text.replace("scab", "scabb", 1))


def remove_image(raw):
    next((raw / "train_images").iterdir()).unlink()


def empty_images(raw):
    for path in (raw / "train_images").iterdir():
        path.unlink()


def truncate_two(raw):
    for path in sorted((raw / "train_images").iterdir())[:2]:
        path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    "damage, expected",
    [
        (remove_table, ["train.csv does not exist", "as Kaggle ships it"]),
        (misspell_label, ["unknown label 'scabb'", "conf/competition/sample.yaml"]),
        (remove_image, [".jpg is not in train_images/"]),
        (empty_images, ["64 problem(s)", "is not in train_images/"]),
        (truncate_two, ["2 image(s) cannot be read", "replace them"]),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing_that_looks_whole(competition, damage, expected):
    damage(competition / "data" / "raw" / "sample")
    done = prepare(competition)
    assert done.returncode == 1
    for words in expected:
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((competition / "data").glob("*prepared*"))


def test_a_misspelt_override_is_an_error_that_names_it(competition):
    done = prepare(competition, "prepare.image_sise=32")
    assert done.returncode == 1 and "image_sise" in done.stderr and "Traceback" not in done.stderr


def test_a_failed_stage_leaves_the_last_good_result_alone(competition):
    assert prepare(competition).returncode == 0
    before = hashes(competition / "data" / "prepared")
    truncate_two(competition / "data" / "raw" / "sample")
    assert prepare(competition).returncode == 1
    assert hashes(competition / "data" / "prepared") == before


def test_the_fifteen_contradictory_pairs_of_the_real_images_are_found(real_images, tmp_path):
    done = run_module(
        "prepare",
        "competition=plant-pathology-2021-fgvc8",
        f"paths.raw={real_images}",
        "prepare.image_size=32",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    duplicates = json.loads((tmp_path / "data/prepared/manifest.json").read_text())["duplicates"]
    assert len(duplicates) == 15 and all(pair["contradictory"] for pair in duplicates)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_that_looks_whole(competition):
    """On a real disk that is too small: 100 kB of memory, in a namespace where that is allowed."""
    program = f"mkdir data/prepared-disk && mount -t tmpfs -o size=100k none data/prepared-disk && {sys.executable}"
    program += " -m plant_pathology.prepare competition=sample paths.prepared=data/prepared-disk/prepared; code=$?"
    program += "; ls -A data/prepared-disk; exit $code"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", program],
        cwd=competition,
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"needs a namespace to mount a small disk in: {done.stderr.strip()}")
    assert done.returncode == 1 and done.stdout == ""
    assert "No space left on device" in done.stderr and "make room" in done.stderr
    assert "Traceback" not in done.stderr
