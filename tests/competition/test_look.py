"""A first config from a folder: what can be seen is right, and what is guessed says so."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from plant_pathology.competition.form import check_form, read_form
from plant_pathology.competition.look import look
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import read_train
from plant_pathology.core.errors import UserError
from support.commands import PROJECT, run_in, run_module

DRAWN = PROJECT / "../shared/competitions"
TRAIN, TEST = [f"{number:06x}" for number in range(5000, 5040)], [f"{number:06x}" for number in range(9000, 9012)]


class Folder:
    """A competition's folder, filled in by a test."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def images(self, *names):
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(self.path / name)

    def table(self, name, /, **columns):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_csv(self.path / name, index=False)

    def json(self, name, content):
        (self.path / name).write_text(json.dumps(content))

    def look(self):
        """Look, check that the result is short and leads to all images and labels, and return its sections."""
        text = look(self.path)
        assert len([line for line in text.splitlines() if not line.strip().startswith("#")]) <= 12
        assert all(len(line) <= 120 for line in text.splitlines() if line.strip().startswith("#"))
        assert not set(problems(text, self.path))
        return yaml.safe_load(text)["competition"], text


def competition_of(text):
    content = yaml.safe_load(text) | {"paths": {"code": "/nowhere"}}
    return Competition.from_config(OmegaConf.create(content))


def problems(text, folder):
    """What is wrong with the rows of the training table, after the checks of the form."""
    competition = competition_of(text)
    train = read_train(competition, folder)
    check_form(competition, folder, train.labels)
    return sum(train.rows["problems"], [])


@pytest.fixture
def folder(tmp_path):
    """A folder whose images train/<id>.jpg and test/<id>.jpg are named by the ids TRAIN and TEST."""
    drawn = Folder(tmp_path / "some-competition")
    drawn.images(*(f"train/{name}.jpg" for name in TRAIN), *(f"test/{name}.jpg" for name in TEST))
    return drawn


@pytest.fixture
def bare(tmp_path):
    return Folder(tmp_path / "some-competition")


def cycle(*values, of=TRAIN):
    return [values[place % len(values)] for place in range(len(of))]


def test_a_table_of_one_label(folder):
    folder.table("sample_submission.csv", id=TEST, species="ash")
    folder.table("train.csv", id=TRAIN, width=4, species=cycle("ash", "common wheat", "oak"))
    found, text = folder.look()
    assert found == {
        "name": "some-competition",
        "title": "Some Competition",
        "train": {"table": "train.csv", "files": "train/{id}.jpg"},
        "test": {"files": "test/{id}.jpg"},
        "target": {"kind": "one", "column": "species"},
        "metric": "accuracy",
        "submit": {"as": "label", "by": "file"},
    }
    assert text.startswith("# @package _global_\n")
    assert "  # guessed: accuracy, because the answer is label; else sample_f1, micro_f1, macro_f1" in text


def test_names_with_their_ending_a_form_of_another_name_and_a_column_without_one(folder):
    names = [f"{name}.jpg" for name in TEST]
    folder.table("Submission_Format.csv", **{"": range(len(TEST)), "image": names, "label": ""})
    folder.table("labels.csv", image=[f"{name}.jpg" for name in TRAIN], label=cycle("a", "b", "c"))
    found, _ = folder.look()
    assert found["test"] == {"form": "Submission_Format.csv", "files": "test/{image}"}
    assert found["train"] == {"table": "labels.csv", "files": "train/{image}"}


def test_ids_that_do_not_come_first_in_the_form(folder):
    (folder.path / "sample_submission.csv").write_text("label,id\n" + "".join(f"a,{name}\n" for name in TEST))
    folder.table("train.csv", id=TRAIN, label=cycle("a", "b", "c"))
    assert folder.look()[0]["test"] == {"id": "id", "files": "test/{id}.jpg"}


def test_equal_ids_of_training_and_test_images(bare):
    bare.images(*(f"{part}/{number}.jpg" for part in ("train", "test") for number in range(1, 21)))
    bare.table("sample_submission.csv", name=range(1, 21), invasive=0.5)
    bare.table("train_labels.csv", name=range(1, 21), invasive=cycle(0, 1, of=range(20)))
    found, _ = bare.look()
    assert found["train"]["files"] == "train/{name}.jpg" and found["test"]["files"] == "test/{name}.jpg"
    assert found["submit"]["as"] == "probability" and found["metric"] == "roc_auc"


def test_ids_that_are_a_part_of_the_file_s_name(bare):
    bare.images(*(f"train/scan_{name}_left.png" for name in TRAIN), *(f"test/scan_{name}_left.png" for name in TEST))
    bare.table("sample_submission.csv", id=TEST, label="a")
    bare.table("train.csv", id=TRAIN, label=cycle("a", "b", "c"))
    found, _ = bare.look()
    assert found["train"]["files"] == "train/scan_{id}_left.png"
    assert found["test"]["files"] == "test/scan_{id}_left.png"


def test_folders_that_columns_name(bare):
    chains = cycle("12", "7", "0", "41")
    bare.images(*(f"train_images/{chain}/{name}.jpg" for chain, name in zip(chains, TRAIN, strict=True)))
    bare.images(*(f"test_images/{name}.jpg" for name in TEST))
    bare.table("sample_submission.csv", image=[f"{name}.jpg" for name in TEST], hotel_id="36363 53586 1 2 3")
    names = [f"{name}.jpg" for name in TRAIN]
    bare.table("train.csv", image=names, chain=chains, hotel_id=cycle(*range(36360, 36370)))
    found, _ = bare.look()
    assert found["train"]["files"] == "train_images/{chain}/{image}"
    assert found["target"] == {"kind": "one", "column": "hotel_id"}
    assert found["submit"]["as"] == "ranking" and found["metric"] == "map_at_5"


def test_training_and_test_images_in_one_folder_with_a_table_of_each(bare):
    bare.images(*(f"images/{name}.jpg" for name in TRAIN + TEST))
    bare.table("sample_submission.csv", id=TEST, species="ash")
    bare.table("test.csv", id=TEST, margin=0.5, species_name="?")
    bare.table("train.csv", id=TRAIN, margin=0.5, species=cycle("ash", "oak", "fir"))
    assert bare.look()[0]["train"] == {"table": "train.csv", "files": "images/{id}.jpg"}


def test_one_hot_columns_of_exclusive_labels(folder):
    columns = dict(zip(("healthy", "rust", "scab"), np.eye(3, dtype=int)[cycle(0, 1, 2)].T, strict=True))
    folder.table("sample_submission.csv", id=TEST, healthy=0.3, rust=0.3, scab=0.3)
    folder.table("train.csv", id=TRAIN, **columns)
    found, text = folder.look()
    assert found["target"] == {"kind": "one"} and found["submit"]["as"] == "columns" and found["metric"] == "log_loss"
    assert "guessed: kind one, because every row has exactly one 1; else several" in text


def test_columns_of_several_labels_and_a_group(folder):
    folder.table("sample_submission.csv", id=TEST, tube=0, line=0)
    patients = cycle(*(f"patient{number}" for number in range(15)))
    folder.table("train.csv", id=TRAIN, tube=cycle(1, 0, 1), line=cycle(1, 0), site=cycle("a", "b"), PatientID=patients)
    found, text = folder.look()
    assert found["target"] == {"kind": "several"} and found["metric"] == "roc_auc"
    assert found["groups"] == ["PatientID"] and "  # guessed: no fold splits these" in text


def test_a_column_of_the_form_for_each_label_of_the_table(folder):
    folder.table("sample_submission.csv", id=TEST, ash=0.5, oak=0.5)
    folder.table("labels.csv", id=TRAIN, breed=cycle("ash", "oak"))
    found, _ = folder.look()
    assert found["target"] == {"kind": "one", "column": "breed"} and found["submit"]["as"] == "columns"


def test_one_hot_columns_where_the_form_asks_for_a_label(folder):
    folder.table("sample_submission.csv", id=TEST, answer="rust")
    folder.table("train.csv", id=TRAIN, rust=cycle(1, 0), scab=cycle(0, 1))
    found, text = folder.look()
    assert found["target"] == {"kind": "one", "columns": ["rust", "scab"]}
    assert "guessed: the labels are the columns rust, …" in text


def test_a_folder_for_each_label(bare):
    bare.images(*(f"train/{label}/{name}.png" for label in ("Sugar beet", "Maize") for name in TRAIN))
    bare.images(*(f"test/{name}.png" for name in TEST))
    bare.table("sample_submission.csv", file=[f"{name}.png" for name in TEST], species="Maize")
    found, text = bare.look()
    assert found["train"] == {"files": "train/{species}/{file}"} and found["test"] == {"files": "test/{file}"}
    assert found["target"] == {"kind": "one", "column": "species"} and found["submit"]["as"] == "label"
    assert "guessed: labels from the files' paths" in text


def test_a_folder_for_each_column_of_the_form(bare):
    bare.images(*(f"imgs/train/{label}/{name}.jpg" for label in ("c0", "c1") for name in TRAIN))
    bare.images(*(f"imgs/test/{name}.jpg" for name in TEST))
    bare.table("sample_submission.csv", img=[f"{name}.jpg" for name in TEST], c0=0.5, c1=0.5)
    found, _ = bare.look()
    assert found["train"] == {"files": "imgs/train/{label}/{img}"} and found["submit"]["as"] == "columns"


def test_labels_in_the_names_of_files(bare):
    bare.images(*(f"train/{label}.{number}.jpg" for label in ("cat", "dog") for number in range(12)))
    bare.images(*(f"test/{number}.jpg" for number in range(1, 13)))
    bare.table("sample_submission.csv", id=range(1, 13), label=0.5)
    found, text = bare.look()
    assert found["train"] == {"files": "train/{label}.{id}.jpg"} and found["test"] == {"files": "test/{id}.jpg"}
    assert found["submit"] == {"as": "probability", "positive": "dog", "by": "file"}
    assert "guessed: positive dog, the last label; else cat" in text


def test_coco_with_test_ids_that_a_json_joins(bare):
    train = [{"image_id": name, "file_name": f"0/{name}.jpg", "location": place} for place, name in enumerate(TRAIN)]
    for image in train:
        image["location"] %= 12
    notes = [{"image_id": name, "category_id": number} for name, number in zip(TRAIN, cycle(3, 7, 400), strict=True)]
    tests = [{"image_id": str(place), "file_name": f"1/test-{name}.jpg"} for place, name in enumerate(TEST)]
    bare.images(*(f"train_images/{image['file_name']}" for image in train))
    bare.images(*(f"test_images/{image['file_name']}" for image in tests))
    bare.json("train_metadata.json", {"annotations": notes, "images": train, "categories": [{"category_id": 3}]})
    bare.json("test_metadata.json", tests)
    bare.table("sample_submission.csv", Id=range(len(TEST)), Predicted=42)
    found, text = bare.look()
    assert found["train"] == {"table": "train_metadata.json", "files": "train_images/{file_name}"}
    assert found["test"] == {"table": "test_metadata.json", "files": "test_images/{file_name}"}
    assert found["target"] == {"kind": "one", "column": "category_id"} and found["groups"] == ["location"]
    assert "guessed: column category_id, because the training table has no column Predicted" in text


def test_a_json_in_the_images_folder_and_a_key_of_another_name(bare):
    images = [{"id": name, "file_name": f"images/0/{name}.jpg"} for name in TRAIN]
    notes = [{"image_id": name, "category_id": number} for name, number in zip(TRAIN, cycle(3, 7), strict=True)]
    bare.images(*(f"train/{image['file_name']}" for image in images), *(f"test/x-{name}.jpg" for name in TEST))
    bare.json("train/metadata.json", {"annotations": notes, "images": images})
    bare.table("test/names.csv", number=range(500, 500 + len(TEST)), path=[f"x-{name}.jpg" for name in TEST])
    bare.table("sample_submission.csv", Id=range(500, 500 + len(TEST)), Predicted=0)
    found, _ = bare.look()
    assert found["train"] == {"table": "train/metadata.json", "files": "train/{file_name}"}
    assert found["test"] == {"table": "test/names.csv", "key": "number", "files": "test/{path}"}


@pytest.mark.parametrize("separator", [" ", ","])
def test_label_lists(folder, separator):
    lists = cycle(*(separator.join(each) for each in (["18", "191"], ["191", "412"], ["18"], ["412"], ["18", "412"])))
    folder.table("sample_submission.csv", id=TEST, attribute_ids=separator.join("012"))
    folder.table("labels.csv", attribute_id=[18, 191, 412], attribute_name=["a", "b", "c"])
    folder.table("train.csv", id=TRAIN, attribute_ids=lists)
    found, text = folder.look()
    assert found["target"].pop("separator", " ") == found["submit"].pop("separator", " ") == separator
    assert found["target"] == {"kind": "several", "column": "attribute_ids"} and found["submit"]["as"] == "labels"
    assert found["metric"] == "sample_f1" and "else accuracy, micro_f1, macro_f1" in text


@pytest.mark.parametrize(
    ("column", "values", "example", "kind", "answer", "metric"),
    [
        ("score", range(1, 41), 43.5, "number", "number", "rmse"),
        ("weight", np.linspace(0, 3, 40).round(2), 0, "number", "number", "rmse"),
        ("age", range(40), 0, "number", "number", "rmse"),
        ("level", range(5), 0, "ordinal", "label", "quadratic_weighted_kappa"),
        ("label", range(5), 0, "one", "label", "accuracy"),
        ("hotel_id", range(36360, 36385), 36363, "one", "label", "accuracy"),
        ("cancer", (0, 1), 0, "one", "probability", "roc_auc"),
        ("cancer", ("benign", "malignant"), "benign", "one", "label", "accuracy"),
        ("species", ("Small-leaved lime", "Common wheat", "Common oak"), "Common oak", "one", "label", "accuracy"),
        ("whale", ("w_1", "w_2", "w_3"), "w_1 w_2 w_3", "one", "ranking", "map_at_3"),
    ],
)
def test_what_the_cells_say(folder, column, values, example, kind, answer, metric):
    folder.table("sample_submission.csv", **{"id": TEST, column: example})
    folder.table("train.csv", **{"id": TRAIN, "width": 4, column: cycle(*values)})
    found, _ = folder.look()
    assert (found["target"], found["submit"]["as"], found["metric"]) == (
        {"kind": kind, "column": column},
        answer,
        metric,
    )


def test_numbers_that_a_file_names_have_no_order(folder):
    folder.table("sample_submission.csv", id=TEST, grade=0)
    folder.table("train.csv", id=TRAIN, grade=cycle(0, 1, 2))
    assert folder.look()[0]["target"]["kind"] == "ordinal"
    folder.json("names.json", {"0": "oak", "1": "ash", "2": "fir"})
    found, text = folder.look()
    assert found["target"]["kind"] == "one" and "names.json names the numbers" in text


def test_text_that_yaml_would_read_otherwise_is_quoted(bare):
    bare.images(*(f"train/{name}.jpg" for name in TRAIN), *(f"test/{name}.jpg" for name in TEST))
    bare.table("sample_submission.csv", **{"id: code": TEST, "no": 0})
    bare.table("1e5.csv", **{"id: code": TRAIN, "no": cycle("0", "1")})
    found, _ = bare.look()
    assert found["train"] == {"table": "1e5.csv", "files": "train/{id: code}.jpg"}
    assert found["target"]["column"] == "no"


def test_what_the_folder_lacks_is_said_in_one_sentence(bare):
    bare.table("train.csv", id=TRAIN, label=cycle("a", "b"))
    with pytest.raises(UserError, match=r"has no images \(.*\): unpack its archives"):
        look(bare.path)
    bare.images(*(f"train/{name}.jpg" for name in TRAIN))
    with pytest.raises(UserError, match="has no csv form, with rows and with sample or submission in its name"):
        look(bare.path)
    bare.table("sample_submission.csv", id=TEST, label="a")
    (bare.path / "train.csv").unlink()
    with pytest.raises(UserError, match="has no table that leads to images and labels"):
        look(bare.path)


def test_test_images_that_are_not_there_are_marked(bare):
    bare.images(*(f"train/{name}.jpg" for name in TRAIN))
    bare.table("sample_submission.csv", id=["x"], label="a")
    bare.table("train.csv", id=TRAIN, label=cycle("a", "b", "c"))
    text = look(bare.path)
    assert "  # not found: no image is named like the ids of sample_submission.csv, such as x; set files" in text
    assert yaml.safe_load(text)["competition"]["train"]["files"] == "train/{id}.jpg"
    assert "guessed: by kernel, because a form with so few rows (1) is an example; else file" in text


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(PROJECT / "conf", tmp_path / "checkout" / "conf")
    return tmp_path / "checkout"


def test_the_command_writes_the_file_prints_it_and_never_replaces_one(folder, checkout):
    folder.table("sample_submission.csv", id=TEST, label="a")
    folder.table("train.csv", id=TRAIN, label=cycle("a", "b", "c"))
    done = run_module("look", str(folder.path), cwd=checkout)
    assert done.returncode == 0, done.stderr
    file = checkout / "conf/competition/some-competition.yaml"
    assert file.read_text() == done.stdout == look(folder.path)
    assert "wrote conf/competition/some-competition.yaml" in done.stderr
    file.write_text("mine\n")
    again = run_module("look", f"~/{folder.path.name}", cwd=checkout, HOME=str(folder.path.parent))  # as sh leaves it
    assert again.returncode == 0 and again.stdout == done.stdout and "is kept" in again.stderr
    assert file.read_text() == "mine\n"
    lost = run_module("look", "nowhere", cwd=checkout)
    assert lost.returncode == 1 and lost.stderr.startswith("error: nowhere does not exist")
    file.write_text(done.stdout)
    arguments = ["competition=some-competition", "recipe=ours", "prepare.image_size=32", "prepare.workers=1"]
    prepared = run_module("prepare", *arguments, f"paths.raw={folder.path}", cwd=checkout)
    assert prepared.returncode == 0, prepared.stderr


def test_a_look_is_the_same_in_each_process(bare):
    """Python orders a set of texts differently in each process; here, nine templates fit equally well."""
    bare.images(*(f"{copy}/{name}.jpg" for copy in ("one", "two", "six") for name in TRAIN))
    bare.images(*(f"test/{name}.jpg" for name in TEST))
    bare.table("train.csv", ape=TRAIN, bee=TRAIN, cat=TRAIN, label=cycle("a", "b", "c"))
    bare.table("sample_submission.csv", id=TEST, label="a")
    program = "import sys; from pathlib import Path; from plant_pathology.competition.look import look;"
    command = [sys.executable, "-c", program + "print(look(Path(sys.argv[1])))", str(bare.path)]
    assert len({run_in(PROJECT, "env", f"PYTHONHASHSEED={seed}", *command) for seed in range(5)}) == 1


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    if not (DRAWN / "draw.py").exists():
        pytest.skip(f"needs the program that draws competitions in {DRAWN}")
    folder = tmp_path_factory.mktemp("drawn")
    subprocess.run([sys.executable, DRAWN / "draw.py", "all", folder, "11"], check=True, capture_output=True)
    return folder


def test_drawn_competitions_are_seen_as_their_files_say_that_were_written_by_hand(drawn):
    folders = [path for path in sorted(drawn.iterdir()) if (PROJECT / f"conf/competition/{path.name}.yaml").exists()]
    assert len(folders) >= 10
    assert [difference for folder in folders for difference in differences(folder)] == []


def differences(folder):
    """Yield in what the file that is written differs from the one by hand, apart from metric, title and `submit.by`."""
    seen = competition_of(look(folder))
    by_hand = competition_of((PROJECT / f"conf/competition/{folder.name}.yaml").read_text())
    meanings = []
    for competition in (seen, by_hand):
        train, form = read_train(competition, folder), read_form(competition, folder)
        check_form(competition, folder, train.labels)
        meaning = {
            "kind": competition.target.kind,
            "answer": competition.submit.as_,
            "positive": competition.submit.positive,
            "groups": competition.groups,
            "labels": train.labels,
            "training images": sorted(zip(train.rows["image"], train.rows["labels"], strict=True)),
            "folder": train.folder,
            "test images": form.images,
        }
        meanings.append(meaning)
    for key, value in meanings[0].items():
        if value != meanings[1][key]:
            yield f"{folder.name}: {key}"
