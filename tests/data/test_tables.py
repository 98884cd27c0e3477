"""Tables that a person may have, through the real `prepare`: what it says of them, and what is in the index."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plant_pathology.data.predictions import Predictions, write_predictions
from support.commands import run_module

IMAGES = 20
NAMES = [f"i{number}.png" for number in range(IMAGES)]
FLOWERS = "{kind:one,column:labels,labels:[rose,lily]}"


@pytest.fixture
def table():
    """Return a table of ten roses and ten lilies."""
    return pd.DataFrame({"image": NAMES, "labels": ["rose", "lily"] * (IMAGES // 2)})


def draw(folder, names, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(names), 48, 48, 3), np.uint8)
    for name, picture in zip(names, pixels, strict=True):
        Image.fromarray(picture).save(folder / name)


def prepare(root, table, *overrides, target=FLOWERS, metric="accuracy", as_="label"):
    """Run `prepare` on a table, of whose images those in NAMES are drawn."""
    raw = root / "data/raw/sample"
    draw(raw / "train_images", sorted(set(table["image"]) & set(NAMES)))
    draw(raw / "test_images", ["t0.png", "t1.png"], seed=1)
    table.to_csv(raw / "train.csv", index=False)
    form = pd.DataFrame({"image": ["t0.png", "t1.png"], "labels": table["labels"].iloc[0]})
    form.to_csv(raw / "sample_submission.csv", index=False)
    described = f"competition.target={target}", f"competition.metric={metric}", f"competition.submit={{as:{as_}}}"
    return run_module(
        "prepare", "competition=sample", "recipe=ours", "prepare.image_size=32", *described, *overrides, cwd=root
    )


def index_of(root):
    return pd.read_csv(root / "data/prepared/index.csv").set_index("image")


def test_a_correction_is_of_all_rows_of_an_image_and_mends_what_is_no_label(tmp_path, table):
    (tmp_path / "competitions").mkdir()
    wrong = table.assign(labels=table["labels"].where(table["image"] != "i4.png", "lilly"))
    lost = pd.DataFrame({"image": ["lost.png"], "labels": ["rose"]})
    twice = pd.concat([wrong, wrong.iloc[10:11], wrong.iloc[12:13].assign(labels="lily"), lost])
    pd.DataFrame(
        {
            "image": ["i10.png", "i12.png", "i4.png", "i6.png", "lost.png"],
            "labels": ["rose", "lily", "lilly", "rose", "rose"],
            "suggested": "lily",
            "accept": ["yes", "yes", "yes", "no", "yes"],
        }
    ).to_csv(tmp_path / "competitions/reviewed.csv", index=False)
    done = prepare(tmp_path, twice, "prepare.relabel=reviewed.csv", "prepare.on_bad=quarantine")
    assert done.returncode == 0, done.stderr
    assert "3 images relabeled, of 5 in reviewed.csv" in done.stdout
    expected = table.set_index("image")["labels"]
    expected[["i10.png", "i12.png", "i4.png"]] = "lily"
    assert index_of(tmp_path)["labels"].to_dict() == expected.to_dict()


def test_an_extra_image_of_a_group_of_the_table_is_left_out(tmp_path, table):
    draw(tmp_path / "data/extra", ["known.png", "new.png", "nobody.png"], seed=2)
    more = pd.DataFrame({"image": ["known.png", "new.png", "nobody.png"], "labels": "rose"})
    more.assign(patient=["P3 ", "p77", ""]).to_csv(tmp_path / "data/extra/more.csv", index=False)
    patients = [f"p{number // 2}" for number in range(1, IMAGES)]
    done = prepare(
        tmp_path, table.assign(patient=["", *patients]), "prepare.extra=more.csv", "competition.groups=[patient]"
    )
    assert done.returncode == 0, done.stderr
    assert "2 extra images of more.csv train and never validate; 1 left out" in done.stdout
    extra = index_of(tmp_path)["fold"].loc[lambda fold: fold == -1]
    assert extra.index.tolist() == ["extra:new.png", "extra:nobody.png"]


def test_a_teacher_of_other_data_with_the_same_names_is_one_error(tmp_path, table):
    (tmp_path / "data/extra").mkdir(parents=True)
    (tmp_path / "competitions").mkdir()
    (tmp_path / "competitions/reviewed.csv").write_text("image,labels,suggested,accept\ni0.png,500.0,7,yes\n")
    true = np.arange(500, 500 + IMAGES, dtype=np.float32)
    numbers = table.assign(labels=true)
    taught = ["prepare.teacher=teacher.npz", "prepare.relabel=reviewed.csv"]
    target = {"target": "{kind:number,column:labels,labels:null}", "metric": "rmse", "as_": "number"}
    for other, expected in ((0, "20 images have soft labels"), (500, "what is true of 19 of 19 images, such as")):
        stored = Predictions(np.array(NAMES), [], true - other, true[:, None])
        write_predictions(tmp_path / "data/extra/teacher.npz", stored)
        done = prepare(tmp_path, numbers, *taught, **target)
        assert expected in done.stdout + done.stderr
        assert done.returncode == (other > 0)


def test_a_label_with_dollars_is_drawn_as_it_is(tmp_path, table):
    table["labels"] = table["labels"].replace("rose", "$x_{$")
    done = prepare(tmp_path, table, target="{kind:one,column:labels,labels:null}")
    assert done.returncode == 0, done.stderr
    assert ">$x_{$<" in (tmp_path / "reports/data/labels.svg").read_text()
