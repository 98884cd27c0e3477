import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import read_train
from plant_pathology.core.errors import UserError
from plant_pathology.data.decode_cache import open_decode_cache
from plant_pathology.data.index import read_table
from plant_pathology.data.shards import Shards, shard_name
from support.commands import config, on_a_small_disk, run_module, start_module


@pytest.fixture
def competition(raw, tmp_path):
    """Return a root folder with its own copy of the drawn competition, which a test may damage."""
    shutil.copytree(raw, tmp_path / "data" / "raw" / "sample")
    return tmp_path


def prepare(root, *overrides):
    return run_module("prepare", "competition=sample", "prepare.image_size=32", *overrides, cwd=root)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def manifest(root):
    return json.loads((root / "data/prepared/manifest.json").read_text(encoding="utf-8"))


def images_of(root):
    return root / "data/raw/sample/train_images"


def singles(root):
    """Return the images that occur once in train.csv, with their labels."""
    table = pd.read_csv(root / "data/raw/sample/train.csv")
    contents = table["image"].map(lambda name: (images_of(root) / name).read_bytes())
    return list(table[~contents.duplicated(keep=False)].itertuples(index=False, name=None))


def list_more(root, *lines):
    with (root / "data/raw/sample/train.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{name},{labels}\n" for name, labels in lines)


@pytest.mark.slow
def test_output_does_not_depend_on_the_number_of_workers_or_on_modification_times(competition):
    prepared, figures = competition / "data" / "prepared", competition / "reports" / "data"
    assert prepare(competition, "prepare.workers=1", "prepare.shard_mb=0.06").returncode == 0
    first, drawn = hashes(prepared), hashes(figures)
    (competition / "data" / "decoded.sqlite").unlink()
    for path in images_of(competition).iterdir():
        os.utime(path, (1e9, 1e9))
    assert prepare(competition, "prepare.workers=3", "prepare.shard_mb=0.06").returncode == 0
    assert hashes(prepared) == first and hashes(figures) == drawn
    assert sum(name.startswith("images-") for name in first) == 4


@pytest.mark.slow
def test_index_csv_locates_the_pixels_of_each_image(competition):
    assert prepare(competition, "prepare.shard_mb=0.06", "machine=cpu").returncode == 0
    prepared = competition / "data" / "prepared"
    index = read_table(prepared / "index.csv")
    names = [shard_name(number, "raw") for number in index["shard"]]
    pixels = np.stack(list(Shards(lambda name: prepared / name).pixels(names, index["row"])))
    assert pixels.shape == (64, 32, 32, 3)
    for square, name, digest in zip(pixels, index["image"], index["pixels"], strict=True):
        assert hashlib.sha256(square.tobytes()).hexdigest() == digest
        with Image.open(images_of(competition) / name) as source:
            assert abs(square.mean() - np.asarray(source.convert("RGB")).mean()) < 12


@pytest.mark.slow
def test_a_killed_run_continues_and_gives_the_same_bytes(competition):
    images = images_of(competition)
    names = [f"big-{number:03d}.jpg" for number in range(400)]
    Image.open(next(images.iterdir())).convert("RGB").resize((4000, 2672)).save(images / names[0])
    for name in names[1:]:
        os.link(images / names[0], images / name)
    list_more(competition, *[(name, "scab") for name in names])

    decoded = competition / "data" / "decoded.sqlite"
    first = start_module(
        "prepare",
        "competition=sample",
        "prepare.image_size=32",
        "prepare.workers=1",
        cwd=competition,
        stdout=subprocess.PIPE,
    )
    while first.poll() is None and not (decoded.exists() and decoded.stat().st_size > 100_000):
        time.sleep(0.02)
    time.sleep(0.4)  # the file has grown, and by now the commit that let it grow is complete
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)  # returns when its workers have ended too: they hold the other end of the pipe
    assert first.returncode == -signal.SIGKILL
    assert not (competition / "data" / "prepared").exists()

    second = prepare(competition).stdout
    new, known = (int(second.split(f" {word}")[0].split()[-1]) for word in ("decoded", "known"))
    assert new > 10 and known > 10 and new + known == 64 + 400
    went_on = hashes(competition / "data" / "prepared")
    assert "464 decoded, 0 known" in prepare(competition, "paths.decoded=fresh.sqlite").stdout
    assert hashes(competition / "data" / "prepared") == went_on


@pytest.mark.slow
def test_only_new_and_changed_images_are_decoded(competition):
    images = images_of(competition)
    assert "64 decoded, 0 known" in prepare(competition).stdout
    (changed, _), (other, _), *_ = singles(competition)
    Image.open(images / changed).convert("RGB").rotate(180).save(images / changed, "JPEG")
    Image.open(images / other).convert("RGB").rotate(180).save(images / "new.jpg", "JPEG")
    list_more(competition, ("new.jpg", "scab"))
    assert "65 images of 32 px in 5 folds; 2 decoded, 63 known" in prepare(competition).stdout
    with sqlite3.connect(competition / "data" / "decoded.sqlite") as database:
        assert database.execute("SELECT count(*) FROM decoded").fetchone() == (65,), (
            "the old version of the changed image is deleted"
        )


@pytest.mark.slow
def test_duplicates_share_a_fold_and_contradictory_labels_are_listed_and_drawn(competition):
    assert "4 of them with contradictory labels" in prepare(competition).stdout
    index = pd.read_csv(competition / "data" / "prepared" / "index.csv").set_index("image")
    duplicates = manifest(competition)["duplicates"]
    assert len(duplicates) == 4
    for group in duplicates:
        assert group["contradictory"] and group["identical"] and group["distance"] == 0
        assert index.loc[group["images"], "labels"].str.split().tolist() == group["labels"]
        assert index.loc[group["images"], "fold"].nunique() == 1
    figures = competition / "reports" / "data"
    for name in ("labels.svg", "images.svg"):
        assert "embedded sample, drawn leaves: 64 images" in (figures / name).read_text(encoding="utf-8")
    with Image.open(figures / "duplicates.png") as gallery:
        assert gallery.width > 900, "three pairs side by side"


@pytest.mark.slow
def test_copies_at_another_size_or_quality_are_found_and_can_be_merged(competition):
    images = images_of(competition)
    pairs = []
    for place, (name, labels) in enumerate(singles(competition)[:6]):
        image = Image.open(images / name)
        size = [int((1, 1.6, 0.6)[place % 3] * length) for length in image.size]
        image.convert("RGB").resize(size).save(images / f"again-{name}", "JPEG", quality=40, exif=image.getexif())
        list_more(competition, (f"again-{name}", labels if place else "powdery_mildew complex"))
        pairs.append([name, f"again-{name}"])

    assert prepare(competition, "prepare.duplicates=merge").returncode == 0
    found = manifest(competition)["duplicates"]
    assert sorted(group["images"] for group in found if not group["identical"]) == sorted(pairs)
    kept = pd.read_csv(competition / "data/prepared/index.csv").set_index("image")["labels"]
    assert len(found) == 4 + 6 and len(kept) == 60
    for group in found:
        assert set(kept[group["images"][0]].split()) == {label for row in group["labels"] for label in row}


@pytest.fixture
def damaged(competition):
    """Return a competition with every kind of bad row and file, and the problems with their images."""
    images = images_of(competition)
    (truncated, _), (empty, _), (page, _), (missing, _), (both, _), (again, labels), *_ = singles(competition)
    (images / truncated).write_bytes((images / truncated).read_bytes()[:-900])
    (images / empty).write_bytes(b"")
    (images / page).write_text("<html>404</html>")
    (images / missing).unlink()
    (images / both).write_bytes(b"")
    table = competition / "data/raw/sample/train.csv"
    text = table.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith(both))
    table.write_text(text.replace(line, f"{both},scabb"))
    list_more(competition, (again, labels), ("../leaf.jpg", "scab"))
    (images / "extra.jpg").write_bytes(b"not listed, not looked at")
    return competition, [
        (truncated, "truncated"),
        (empty, "empty file"),
        (page, "a web page"),
        (missing, "there is no file train_images/"),
        (both, "unknown label 'scabb'"),
        (both, "empty file"),
        (again, "listed before"),
        ("../leaf.jpg", "not a path in the competition's folder"),
    ]


def test_all_bad_rows_and_files_are_reported_in_one_list(damaged):
    competition, problems = damaged
    done = prepare(competition)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("  line ")]
    for name, reason in problems:
        assert [line for line in lines if f", {name}: " in line and reason in line], (name, reason)
    assert f"train.csv: {len(problems)} problem(s)" in done.stderr and len(lines) == len(problems)
    assert "prepare.on_bad=quarantine" in done.stderr and "conf/competition/sample.yaml" in done.stderr
    assert not (competition / "data" / "prepared").exists()


@pytest.mark.slow
def test_quarantine_skips_bad_rows_and_lists_them(damaged):
    competition, problems = damaged
    done = prepare(competition, "prepare.on_bad=quarantine")
    assert done.returncode == 0, done.stderr
    assert "59 images of 32 px" in done.stdout and "7 bad rows of train.csv skipped" in done.stdout
    assert "1 files of train_images/ ignored, not in train.csv: extra.jpg" in done.stdout
    assert manifest(competition)["quarantined"] == 7 and manifest(competition)["unlisted"] == ["extra.jpg"]
    quarantine = pd.read_csv(competition / "data/prepared/quarantine.csv")
    for name, reason in problems:
        assert quarantine.loc[quarantine["image"] == name, "reason"].str.contains(reason, regex=False).any()
    assert len(quarantine) == len(problems) and str(competition) not in quarantine.to_csv()
    index = pd.read_csv(competition / "data/prepared/index.csv")
    gone = {name for name, reason in problems if reason != "listed before"}
    assert len(index) == index["image"].nunique() == 59 and not gone & set(index["image"])


def test_an_image_listed_with_two_different_label_sets_is_bad_in_both_rows(competition):
    name, _ = singles(competition)[0]
    list_more(competition, (name, "powdery_mildew complex"))
    rows = read_train(Competition.from_config(config()), competition / "data/raw/sample").rows
    assert rows["problems"][rows["image"] == name].tolist() == [["listed more than once, with different labels"]] * 2


def remove_table(root):
    (root / "data/raw/sample/train.csv").unlink()


def misspell_label(root):
    table = root / "data/raw/sample/train.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("scab", "scabb", 1))


def empty_folder(root):
    for path in images_of(root).iterdir():
        path.unlink()


def empty_files(root):
    for path in images_of(root).iterdir():
        path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, expected",
    [
        (remove_table, ["train.csv does not exist; ", "has sample_submission.csv", "download the competition again"]),
        (misspell_label, ["unknown label 'scabb'", "conf/competition/sample.yaml"]),
        (empty_folder, ["none of its 64 images is there, first line 2: ", "train_images is empty: correct"]),
        (empty_files, ["64 problem(s)", "empty file", "prepare.on_bad=quarantine"]),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_no_output(competition, damage, expected):
    damage(competition)
    done = prepare(competition)
    assert done.returncode == 1
    for words in expected:
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((competition / "data").glob("*prepared*")) and not (competition / "reports").exists()


def test_the_error_for_a_misspelled_override_names_it(competition):
    done = prepare(competition, "prepare.image_sise=32")
    assert done.returncode == 1 and "image_sise" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["prepare.duplicates=mrege"], "prepare.duplicates=mrege: choose one of keep, drop, merge"),
        (["prepare.quality=0"], "prepare.quality=0: choose a whole number from 1 to 100"),
        (["prepare.workers=two"], "prepare.workers=two: choose a whole number from 1"),
        (["prepare.shard_mb=0"], "prepare.shard_mb=0: choose a number from 0.001"),
        (
            [
                "prepare.duplicates=merge",
                "competition.target.kind=one",
                "competition.metric=accuracy",
                "competition.submit.as=label",
            ],
            "choose keep or drop",
        ),
    ],
)
def test_the_error_for_an_invalid_value_lists_the_valid_ones(competition, overrides, expected):
    done = prepare(competition, *overrides)
    assert done.returncode == 1 and expected in done.stderr
    assert not (competition / "data" / "prepared").exists()


@pytest.mark.slow
def test_a_failed_run_keeps_the_last_good_output(competition):
    assert prepare(competition).returncode == 0
    before = hashes(competition / "data" / "prepared")
    (images_of(competition) / singles(competition)[0][0]).write_bytes(b"")
    assert prepare(competition).returncode == 1
    assert hashes(competition / "data" / "prepared") == before


def test_a_missing_image_folder_is_one_error(competition):
    shutil.rmtree(images_of(competition))
    with pytest.raises(UserError, match="train_images is not a folder; .* has test_images: correct competition.train"):
        read_train(Competition.from_config(config()), competition / "data/raw/sample")


def test_the_error_for_a_damaged_cache_says_that_it_may_be_deleted(tmp_path):
    (tmp_path / "decoded.sqlite").write_text("no database " * 100)
    with pytest.raises(UserError, match="decoded.sqlite: file is not a database; .* delete the file"):
        open_decode_cache(tmp_path / "decoded.sqlite", 32, "raw", 95).__enter__()


def test_two_runs_at_once_are_refused(tmp_path):
    decoded = tmp_path / "decoded.sqlite", 32, "raw", 95
    with open_decode_cache(*decoded):
        pass
    with open_decode_cache(*decoded), pytest.raises(UserError, match="is in use: wait"), open_decode_cache(*decoded):
        pass


def test_in_the_real_data_exactly_fifteen_contradictory_pairs_and_two_bursts_are_found(real_images, tmp_path):
    done = run_module(
        "prepare",
        "competition=plant-pathology-2021-fgvc8",
        f"paths.raw={real_images}",
        "prepare.image_size=32",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    duplicates = manifest(tmp_path)["duplicates"]
    identical = [group for group in duplicates if group["identical"]]
    assert len(identical) == 15 and all(group["contradictory"] and len(group["images"]) == 2 for group in identical)
    assert [group["images"] for group in duplicates if not group["identical"]] == [
        ["ab91d1a9d4b49a6c.jpg", "abb0d5a9d4b4985c.jpg"],
        ["cc73e005cc36f31e.jpg", "cc73e025cc36d31e.jpg"],
    ]


@pytest.mark.parametrize("small", ["paths.prepared=small/prepared", "paths.decoded=small/decoded.sqlite"])
def test_a_full_disk_is_one_clear_error_and_leaves_no_output(competition, small):
    left = "rm -f small/decoded.sqlite*; ls -A small; ls -d data/prepared"
    done = on_a_small_disk("prepare", "competition=sample", small, cwd=competition, kilobytes=100, afterwards=left)
    assert done.returncode == 1 and done.stdout == ""
    assert "are free on that disk: make room there" in done.stderr
    assert "Traceback" not in done.stderr
