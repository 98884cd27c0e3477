"""`prepare` for every kind of target: the index, the folds and the figures, through the real command line."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plant_pathology.data.index import open_array, unpack_targets
from support.commands import run_module

ROWS = 60
CATHETERS = ["ETT - Abnormal", "NGT - Normal"]


def images(folder, ending, rows=ROWS):
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 12, 12, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"a{number}{ending}")


def several(raw):
    images(raw / "train", ".jpg")
    images(raw / "test", ".jpg", rows=2)
    has = np.random.default_rng(1).integers(0, 2, (ROWS, 2))
    table = pd.DataFrame(has, columns=CATHETERS).assign(PatientID=[f"p{number // 4}" for number in range(ROWS)])
    table.insert(0, "StudyInstanceUID", [f"a{number}" for number in range(ROWS)])
    table.to_csv(raw / "train.csv", index=False)
    form = pd.DataFrame({"StudyInstanceUID": ["a0", "a1"]}).assign(**dict.fromkeys(CATHETERS, 0))
    form.to_csv(raw / "sample_submission.csv", index=False)
    return has.astype(bool)


def number(raw):
    images(raw / "train", ".jpg")
    images(raw / "test", ".jpg", rows=2)
    values = np.random.default_rng(1).normal(40, 10, ROWS).round(2)
    names = [f"a{place}" for place in range(ROWS)]
    pd.DataFrame({"Id": names, "Pawpularity": values}).to_csv(raw / "train.csv", index=False)
    pd.DataFrame({"Id": names[:2], "Pawpularity": 1.5}).to_csv(raw / "sample_submission.csv", index=False)
    return values.astype(np.float32)


def ordinal(raw):
    images(raw / "train_images", ".png")
    images(raw / "test_images", ".png", rows=2)
    grades = np.arange(ROWS) % 11  # 10 comes after 9, not after 1
    names = [f"a{place}" for place in range(ROWS)]
    pd.DataFrame({"id_code": names, "diagnosis": grades}).to_csv(raw / "train.csv", index=False)
    pd.DataFrame({"id_code": names[:2], "diagnosis": 0}).to_csv(raw / "sample_submission.csv", index=False)
    return grades


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, draw",
    [
        ("ranzcr-clip-catheter-line-classification", several),
        ("petfinder-pawpularity-score", number),
        ("aptos2019-blindness-detection", ordinal),
    ],
)
def test_the_index_holds_what_is_true_and_folds_are_alike(tmp_path, name, draw):
    true = draw(tmp_path / "data/raw" / name)
    done = run_module("prepare", f"competition={name}", "prepare.image_size=32", "recipe=ours", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    prepared = tmp_path / "data/prepared"
    manifest = json.loads((prepared / "manifest.json").read_text())
    rows = open_array(prepared / "index.npy")
    assert (unpack_targets(rows["target"], len(manifest["labels"])) == true).all()
    assert rows["image"].tolist()[:2] == [path.encode() for path in ("a0" + suffix(draw), "a1" + suffix(draw))]
    assert sorted(np.bincount(rows["fold"])) == [12] * 5
    if draw is several:
        patients = pd.read_csv(tmp_path / "data/raw" / name / "train.csv")["PatientID"]
        assert pd.Series(rows["fold"]).groupby(patients).nunique().max() == 1
        assert manifest["labels"] == CATHETERS and manifest["images_with_label"] == dict(
            zip(CATHETERS, true.sum(axis=0).tolist(), strict=True)
        )
    if draw is number:
        assert manifest["scale"]["mean"] == pytest.approx(true.mean()) and manifest["labels"] == []
        means = pd.Series(true).groupby(np.asarray(rows["fold"])).mean()
        assert np.ptp(means) < true.std() / 2
    if draw is ordinal:
        assert manifest["labels"] == [str(grade) for grade in range(11)]


def suffix(draw):
    return ".png" if draw is ordinal else ".jpg"
