"""Any layout of files: tables, templates, labels and the form, with the errors that name what to correct."""

import json

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from plant_pathology.competition.form import check_form
from plant_pathology.competition.labels import found_labels, listed_labels
from plant_pathology.competition.spec import Competition, metric_named
from plant_pathology.competition.train_table import read_train, targets_of
from plant_pathology.core.errors import UserError
from plant_pathology.data.pipeline import describe_targets
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.tables import LayoutError, fill, match, read_table


def competition(**changed):
    """Describe a competition with a table of one label per image; `changed` replaces whole sections."""
    content = {
        "name": "flowers",
        "title": "Flowers",
        "train": {"table": "train.csv", "files": "train/{id}.png"},
        "test": {"files": "test/{id}.png"},
        "target": {"kind": "one", "column": "label"},
        "metric": "accuracy",
        "submit": {"as": "label"},
    }
    return Competition.from_config(OmegaConf.create({"competition": content | changed, "paths": {"code": "."}}))


def draw(raw, train, form, images=None):
    """Write train.csv, the form, and an image for every id of both."""
    raw.mkdir(exist_ok=True)
    for name, table in (("train.csv", train), ("sample_submission.csv", form)):
        (raw / name).write_text(table)
    for part, table in (("train", train), ("test", form)):
        for line in table.splitlines()[1:]:
            place(raw / part / f"{line.split(',')[0]}.png")
    return raw


def place(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


TRAIN, FORM = "id,label\n1,rose\n2,lily\n3,rose\n", "id,label\n7,rose\n8,rose\n"


def test_labels_and_ids_stay_the_text_of_the_file(tmp_path):
    train = read_train(competition(), draw(tmp_path, "id,label\n007,no\n08,1e5\n09,no\n", FORM))
    assert train.labels == ["1e5", "no"] and train.rows["image"].tolist() == ["007.png", "08.png", "09.png"]
    assert train.rows["problems"].tolist() == [[], [], []]
    assert targets_of(train.rows["labels"], train.labels, "one").tolist() == [1, 0, 1]


def test_found_labels_are_sorted_whole_numbers_by_value():
    assert found_labels(["10", "9", "-1", "9"]) == ["-1", "9", "10"]
    assert found_labels(["b", "10", "9"]) == ["10", "9", "b"]


@pytest.mark.parametrize("text", ["no", "1e5", "007", "1.50", "yes", "0"])
def test_a_listed_label_that_yaml_reads_as_another_value_is_the_text_of_the_table(text):
    (listed,) = OmegaConf.create(f"labels: [{text}]").labels
    assert listed_labels([listed], [text, "rose"], "target.labels") == [text]


def test_a_listed_value_that_two_labels_read_as_must_be_quoted():
    with pytest.raises(UserError, match="reads one of its labels as 7, and the table has '7' and '07'.*quotes"):
        listed_labels([7], ["7", "07"], "target.labels")
    with pytest.raises(UserError, match="the table has no such label: put the label in quotes"):
        listed_labels([False], ["rose"], "target.labels")


def test_a_folder_a_class_and_labels_in_file_names_need_no_table(tmp_path):
    for name in ("train/rose/a.png", "train/lily/a.png", "train/lily/b.png", "test/7.png", "test/8.png"):
        place(tmp_path / name)
    (tmp_path / "sample_submission.csv").write_text(FORM)
    folders = competition(train={"files": "train/{label}/{file}"})
    train = read_train(folders, tmp_path)
    assert train.rows["image"].tolist() == ["lily/a.png", "lily/b.png", "rose/a.png"]
    assert train.rows["labels"].tolist() == [("lily",), ("lily",), ("rose",)]
    for name in ("cat.0.png", "cat.1.png", "dog.0.png"):
        place(tmp_path / "pets" / name)
    assert match("pets/{label}.{n}.png", tmp_path).to_numpy().tolist() == [["cat", "0"], ["cat", "1"], ["dog", "0"]]
    with pytest.raises(LayoutError, match=r"none of the 3 files in .*pets is a pets/\{label\}\.\{n\}\.jpg, such as"):
        match("pets/{label}.{n}.jpg", tmp_path)


def test_one_hot_columns_are_those_of_the_form(tmp_path):
    raw = draw(tmp_path, "id,b,a,patient\n1,1,0,p\n2,0,1,p\n3,0.0,1.0,q\n", "id,a,b\n7,0,0\n8,0,0\n")
    several = competition(target={"kind": "several"}, metric="roc_auc", submit={"as": "columns"}, groups=["patient"])
    train = read_train(several, raw)
    assert train.labels == ["a", "b"] and train.rows["labels"].tolist() == [("b",), ("a",), ("a",)]
    assert train.rows["groups: patient"].tolist() == ["p", "p", "q"]
    check_form(several, raw, train.labels)
    (raw / "train.csv").write_text("id,b,a,patient\n1,1,0,p\n2,0,2,p\n")
    with pytest.raises(UserError, match=r"train\.csv, line 3, column a: '2' is neither 0 nor 1"):
        read_train(several, raw)


def test_coco_joins_annotations_images_and_categories_by_either_name_of_the_id(tmp_path):
    images = [{"id": 5, "file_name": "x/a.png", "location": 3}, {"id": 6, "file_name": "b.png", "location": None}]
    notes = [{"id": 1, "image_id": 6, "category_id": 20}, {"id": 2, "image_id": 5, "category_id": 3}]
    content = {"images": images, "annotations": notes, "categories": [{"id": 3, "name": "fox"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    table = read_table(tmp_path / "train.json")
    assert table["file_name"].tolist() == ["b.png", "x/a.png"] and table["category_id"].tolist() == ["20", "3"]
    assert table["category_name"].tolist() == ["", "fox"] and table["location"].tolist() == ["", "3"]
    assert fill("train/{file_name}", table, "train.json") == ["train/b.png", "train/x/a.png"]
    (tmp_path / "test.json").write_text(json.dumps([{"image_id": "0", "file_name": "a.png"}]))
    assert read_table(tmp_path / "test.json").to_dict("records") == [{"image_id": "0", "file_name": "a.png"}]


def test_an_image_with_several_annotations_is_one_row(tmp_path):
    images = [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "b.png"}]
    notes = [{"image_id": 5, "category_id": each} for each in (3, 20, 3)] + [{"image_id": 6, "category_id": 20}]
    for name in ("train/a.png", "train/b.png"):
        place(tmp_path / name)
    (tmp_path / "train.json").write_text(json.dumps({"images": images, "annotations": notes}))
    coco = {"table": "train.json", "files": "train/{file_name}"}
    several = competition(
        train=coco, target={"kind": "several", "column": "category_id"}, metric="micro_f1", submit={"as": "labels"}
    )
    assert read_train(several, tmp_path).rows["labels"].tolist() == [("3", "20"), ("20",)]
    one = read_train(competition(train=coco, target={"kind": "one", "column": "category_id"}), tmp_path).rows
    assert "listed more than once, with different labels" in one["problems"][0]


def test_numbers_that_are_missing_are_problems_of_their_rows(tmp_path):
    number = competition(target={"kind": "number", "column": "label"}, metric="rmse", submit={"as": "number"})
    train = read_train(number, draw(tmp_path, "id,label\n1,3.5\n2,\n3,nan\n4,-1e2\n", "id,label\n7,0.5\n"))
    assert [len(each) for each in train.rows["problems"]] == [0, 1, 1, 0] and train.labels == []
    assert train.rows["problems"][1][0].startswith("'' is not a number")
    assert targets_of(train.rows["labels"][[0, 3]], [], "number").tolist() == [3.5, -100.0]


@pytest.mark.parametrize(
    "numbers, message",
    [
        (["5", "5.0", "5"], "all images have the same number, '5': correct target.column"),
        (["1600000000", "1600000010", "1600000020"], "the numbers, 1600000000 to 1600000020, differ too little"),
        (["-1e9", "-1000000001", "x"], "in 32 bits one is 64 from the next; subtract the same number from all"),
    ],
)
def test_numbers_that_32_bits_do_not_tell_apart_are_one_error(tmp_path, numbers, message):
    number = competition(target={"kind": "number", "column": "label"}, metric="rmse", submit={"as": "number"})
    lines = "".join(f"{place},{text}\n" for place, text in enumerate(numbers))
    with pytest.raises(UserError, match=message):
        read_train(number, draw(tmp_path, f"id,label\n{lines}", "id,label\n7,0.5\n"))


def test_the_mean_of_large_numbers_is_between_the_lowest_and_the_highest():
    numbers = np.float32(1.6e9) + 1000 * np.arange(20_000, dtype=np.float32)
    scale = describe_targets(numbers, [])["scale"]
    assert scale["mean"] == numbers.astype(float).mean() and scale["std"] == numbers.astype(float).std()


@pytest.mark.parametrize("spelling", ["P1", "p1 ", "p\u200b1", "\uff501"])
def test_two_groups_that_look_like_one_are_one_error(tmp_path, spelling):
    raw = draw(tmp_path, f"id,label,patient\n1,rose,p1\n2,lily, \n3,rose,\n4,lily,{spelling}\n", FORM)
    with pytest.raises(UserError, match=r"column patient: 'p1' \(line 2\) and .* \(line 5\) look like one group"):
        read_train(competition(groups=["patient"]), raw)


def test_long_numbers_and_missing_groups_are_not_alike(tmp_path):
    long = "12345678901234567890"
    raw = draw(tmp_path, f"id,label,patient\n1,rose,{long}\n2,lily,{long[:-1]}1\n3,rose,\n4,lily, \n", FORM)
    assert len(read_train(competition(groups=["patient"]), raw).rows) == 4


def test_the_form_s_index_column_and_empty_cells_are_kept_as_they_are(tmp_path):
    raw = draw(tmp_path, TRAIN, FORM)
    (raw / "sample_submission.csv").write_text(",id,label\n0,7,\n1,8,\n")
    form = competition().test.read(raw)
    assert form.id == "id" and form.answers == ["label"] and form.images == ["test/7.png", "test/8.png"]
    assert form.table.to_csv(index=False) == ",id,label\n0,7,\n1,8,\n"
    check_form(competition(), raw, ["lily", "rose"])


def test_ids_are_joined_to_files_by_a_table_and_the_form_may_have_another_name(tmp_path):
    raw = draw(tmp_path, TRAIN, FORM)
    (raw / "sample_submission.csv").rename(raw / "kaggle_form.csv")
    table = pd.DataFrame({"image_id": ["8", "7"], "file": ["x/8.png", "x/7.png"]})
    table.to_csv(raw / "test.csv", index=False)
    for number in (7, 8):
        place(raw / f"test/x/{number}.png")
    joined = competition(test={"form": "kaggle_form.csv", "table": "test.csv", "files": "test/{file}"})
    assert joined.test.read(raw).images == ["test/x/7.png", "test/x/8.png"]
    check_form(joined, raw, ["lily", "rose"])
    with pytest.raises(UserError, match="sample_submission.csv does not exist; .* has kaggle_form.csv, test.csv"):
        check_form(competition(), raw, ["lily", "rose"])


def test_an_id_with_two_images_is_one_error_unless_both_rows_name_one_image(tmp_path):
    raw = draw(tmp_path, TRAIN, FORM)
    (raw / "test.csv").write_text("id,view,image\n9,L,z\n9,R,y\n7,L,x1\n8,L,x2\n8,R,x3\n")
    with pytest.raises(
        LayoutError, match="test.csv has two images of '8', 'test/x2.png' and 'test/x3.png', in line 5 and line 6"
    ):
        competition(test={"table": "test.csv", "files": "test/{image}.png"}).test.read(raw)
    shared = competition(test={"table": "test.csv", "files": "test/{id}.png"})
    assert shared.test.read(raw).images == ["test/7.png", "test/8.png"]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"target": {"kind": "one", "column": "lable"}}, "no column lable, but id, label; did you mean label"),
        ({"train": {"table": "trian.csv", "files": "train/{id}.png"}}, "trian.csv does not exist; .*train.csv"),
        ({"train": {"table": "train.csv", "files": "train/{idd}.png"}}, "no column idd, .*did you mean id.*train in"),
        ({"test": {"files": "test/{id}.jpg"}}, r"2 of 2 ids .* first '7': .*makes it test/7.jpg; there is test/7.png"),
        ({"test": {"files": "tset/{id}.png"}}, "tset is not a folder; .* has test, train"),
        ({"test": {"id": "Id", "files": "test/{id}.png"}}, "no column Id, .*did you mean id"),
        ({"submit": {"as": "columns"}}, "has the column label, which is no label of the training images"),
        ({"groups": ["patient"]}, "no column patient, but id, label"),
        ({"target": {"kind": "ordinal", "column": "label"}}, "order of lily, rose is unknown: list target.labels"),
        ({"target": {"kind": "one", "column": "label", "labels": ["rose", "rose"]}}, "names 'rose' more than once"),
    ],
)
def test_every_mistake_in_the_file_is_one_error_that_says_what_was_found(tmp_path, changed, message):
    raw = draw(tmp_path, TRAIN, FORM)
    with pytest.raises(UserError, match=message):
        described = competition(**changed)
        check_form(described, raw, read_train(described, raw).labels)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"metric": "f1"}, "competition.metric=f1: choose one of accuracy, sample_f1"),
        ({"submit": {"as": "probability"}}, "metric accuracy scores labels, but submit.as is probability"),
        ({"metric": "roc_auc"}, "metric roc_auc scores probabilities, but submit.as is label: set submit.as to prob"),
        ({"metric": "rmse", "submit": {"as": "number"}}, "target.kind=one does not go with metric rmse"),
        ({"metric": "quadratic_weighted_kappa"}, "needs labels with an order: set target.kind=ordinal"),
        (
            {"target": {"kind": "several", "column": "label"}, "metric": "top_1_error", "submit": {"as": "ranking"}},
            "metric top_1_error is of images with one label, but target.kind is several: set it to one, or .* map_at_1",
        ),
        ({"target": {"kind": "two", "column": "label"}}, "target.kind=two: choose one of one, several"),
        ({"sumbit": {"as": "label"}}, "there is no key sumbit.as; did you mean submit.as"),
        ({"submit": {"as": "label", "positive": "rose"}}, "submit.positive is only for submit.as=probability"),
    ],
)
def test_keys_that_contradict_each_other_are_one_error_before_any_file_is_read(changed, message):
    with pytest.raises(UserError, match=message):
        competition(**changed)


@pytest.mark.parametrize(
    "form, submit, metric, message",
    [
        ("id,label\n7,rose\n", {"as": "probability"}, "roc_auc", "holds 'rose', but submit.as=probability writes num"),
        ("id,label\n7,0.5\n", {"as": "label"}, "accuracy", "holds '0.5', but submit.as=label writes labels"),
        ("id,rose,lilly\n7,0,0\n", {"as": "columns"}, "log_loss", "column lilly, .* did you mean the label lily"),
        ("id,rose,lily\n7,0,0\n", {"as": "label"}, "accuracy", "has the columns rose, lily besides id, but submit.as"),
        ("id,label\n7,a\n7,b\n", {"as": "label"}, "accuracy", "has '7' more than once in its column id"),
    ],
)
def test_a_form_that_asks_for_something_else_is_found_before_training(tmp_path, form, submit, metric, message):
    raw = draw(tmp_path, TRAIN, form)
    described = competition(submit=submit, metric=metric)
    with pytest.raises(UserError, match=message):
        check_form(described, raw, read_train(described, raw).labels)


def test_a_class_that_is_only_in_the_form_is_a_label_without_images(tmp_path):
    raw = draw(tmp_path, TRAIN, "id,iris,rose,lily\n7,0,0,0\n")
    described = competition(metric="log_loss", submit={"as": "columns"})
    train = read_train(described, raw)
    assert train.labels == ["iris", "rose", "lily"]
    check_form(described, raw, train.labels)


def test_the_positive_label_is_the_last_one_or_the_one_that_is_named(tmp_path):
    raw = draw(tmp_path, "id,label\n1,no\n2,yes\n", "id,label\n7,0.5\n")
    named = competition(metric="roc_auc", submit={"as": "probability", "positive": False})
    check_form(named, raw, ["no", "yes"])
    with pytest.raises(UserError, match="submit.positive=maybe is no label: choose one of no, yes"):
        check_form(competition(metric="roc_auc", submit={"as": "probability", "positive": "maybe"}), raw, ["no", "yes"])


@pytest.mark.parametrize(
    "as_, decided, columns, expected",
    [
        ("label", [1, 0], ["y"], {"y": ["b", "a"]}),
        ("labels", [[True, True], [False, True]], ["y"], {"y": ["a;b", "b"]}),
        ("ranking", [[1, 0], [0, 1]], ["y"], {"y": ["b;a", "a;b"]}),
        ("probability", [[0.25, 0.75], [1.0, 0.0]], ["y"], {"y": ["0.75", "0"]}),
        ("columns", [[0.25, 0.75], [1.0, 0.0]], ["b", "a"], {"b": ["0.75", "0"], "a": ["0.25", "1"]}),
        ("columns", [1, 0], ["a", "b"], {"a": ["0", "1"], "b": ["1", "0"]}),
        ("columns", [[True, True], [False, True]], ["a", "b"], {"a": ["1", "0"], "b": ["1", "1"]}),
        ("number", [1.5, -2.0], ["y"], {"y": ["1.5", "-2"]}),
    ],
)
def test_cells_hold_what_the_form_asks_for(as_, decided, columns, expected):
    assert Answers(as_, ["a", "b"], ";", None).cells(np.array(decided), columns) == expected


def test_a_metric_of_its_own_says_its_direction_and_what_it_scores(tmp_path):
    code = tmp_path / "flowers.py"
    code.write_text("def mine(true, decided):\n    return 1.0\n")
    with pytest.raises(UserError, match="METRIC_SIGN=None and METRIC_SCORES=None: set the first to 1 or -1"):
        metric_named("mine", code)
    other = tmp_path / "other.py"
    other.write_text(
        "METRIC_SIGN, METRIC_SCORES, METRIC_K = -1, 'ranking', 3\n\n\ndef mine(true, decided):\n    return 2\n"
    )
    metric = metric_named("mine", other)
    assert (metric.sign, metric.scores, metric.k, metric.signed(np.zeros(1), np.zeros(1))) == (-1, "ranking", 3, -2)


def test_a_metric_of_its_own_may_change_its_arguments(tmp_path):
    code = tmp_path / "flowers.py"
    code.write_text(
        "METRIC_SIGN, METRIC_SCORES = -1, 'number'\n\n\n"
        "def mine(true, decided):\n    true -= true.mean()\n"
        "    decided -= decided.mean()\n    return abs(true - decided).max()\n"
    )
    true, decided = np.array([1.0, 2.0, 6.0]), np.array([2.0, 3.0, 7.0])
    assert metric_named("mine", code).score(true, decided) == 0
    assert true.tolist() == [1, 2, 6] and decided.tolist() == [2, 3, 7]
