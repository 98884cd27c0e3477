"""A competition's own code: the module of competitions/README.md opens images, reads the table and scores."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from plant_pathology.competition.spec import Competition
from plant_pathology.data.predictions import read_predictions
from plant_pathology.inference.predictor import predict_submission
from plant_pathology.kernel.test_sets import made_test_set
from support.commands import PROJECT, TINY, config, run_module

pytestmark = pytest.mark.slow  # the runs that they look at are trained first, which takes long

PAGE = (PROJECT / "competitions/README.md").read_text(encoding="utf-8")
MODULE = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
ARRAYS = [
    *TINY,
    "competition.name=arrays",
    "competition.synthetic=false",
    "competition.train.table=null",
    "competition.train.files='train/{id}.npy'",
    "competition.test.files='test/{id}.npy'",
    "competition.target={kind:number,column:label,labels:null}",
    "competition.metric=median_error",
    "competition.submit={as:number}",
    "machine=cpu",
]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Return a folder with a competition of NumPy arrays and its code, prepared, trained for an epoch and selected."""
    root = tmp_path_factory.mktemp("arrays")
    raw, rng = root / "data/raw/arrays", np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 3)):
        (raw / part).mkdir(parents=True)
        for number in range(count):
            np.save(raw / part / f"{number}.npy", rng.integers(0, 256, (40, 40, 3), np.uint8))
    (raw / "labels.txt").write_text("".join(f"{number}: {number / 2}\n" for number in range(24)))
    (raw / "sample_submission.csv").write_text("id,label\n0,1.5\n1,1.5\n2,1.5\n")
    (root / "competitions").mkdir()
    (root / "competitions/arrays.py").write_text(MODULE)
    sweep = ["sweep.model=test_resnet", "sweep.lr=1e-3", "trainer.max_epochs=1"]
    for module, *rest in (["prepare"], ["datastore", "push"], ["train", "-m", *sweep], ["select"]):
        done = run_module(module, *rest, *ARRAYS, cwd=root)
        assert done.returncode == 0, done.stderr
    return root


def test_prepare_reads_the_table_and_opens_the_images_by_the_competition_s_code(arrays):
    index = pd.read_csv(arrays / "data/prepared/index.csv").set_index("image")
    assert index["labels"].to_dict() == {f"{number}.npy": number / 2 for number in range(24)}
    assert json.loads((arrays / "data/prepared/manifest.json").read_text())["kind"] == "number"


def test_the_code_is_used_with_another_root_too(arrays):
    done = run_module("prepare", *ARRAYS, "paths.root=second", "paths.raw=data/raw/arrays", cwd=arrays)
    assert done.returncode == 0, done.stderr
    index = [(arrays / root / "data/prepared/index.csv").read_text() for root in ("second", ".")]
    assert index[0] == index[1]


def test_runs_are_scored_by_the_competition_s_metric(arrays, monkeypatch):
    monkeypatch.chdir(arrays)
    metric = Competition.from_config(config(*ARRAYS)).metric
    assert (metric.name, metric.sign, metric.scores) == ("median_error", -1, "number")
    (result,) = arrays.glob("runs/*/result.json")
    predicted = read_predictions(result.with_name("validation.npz"))
    errors = np.abs(predicted.outputs[:, 0].clip(0, 11.5) - predicted.true)
    assert json.loads(result.read_text())["score"] == pytest.approx(np.median(errors))
    assert json.loads((arrays / "reports/metrics.json").read_text())["metric"] == "median_error"


def test_the_rehearsal_uses_images_that_only_the_competition_s_code_opens(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(arrays)
    competition = Competition.from_config(config(*ARRAYS))
    damaged = made_test_set(arrays / "data/raw/arrays", tmp_path, 5, competition)
    form = competition.test.read(tmp_path)
    shapes = {image: np.load(tmp_path / image).shape for image in form.images if image != f"test/{damaged}.npy"}
    assert len(shapes) == 4 and set(shapes.values()) == {(40, 40, 3)}


def test_the_code_travels_in_the_bundle_and_opens_test_images(arrays, tmp_path):
    bundle, raw = arrays / "models/best", tmp_path / "arrays"
    assert (bundle / "competition.py").read_text() == MODULE
    (raw / "test").mkdir(parents=True)
    (raw / "sample_submission.csv").write_text("id,label\nfine,1\ndamaged,1\n")
    np.save(raw / "test/fine.npy", np.zeros((30, 50), np.uint8))
    (raw / "test/damaged.npy").write_bytes(b"\x93NUMPY")
    submission, problems = predict_submission(bundle, raw)
    assert len(problems) == 1 and "damaged.npy" in problems[0]
    assert submission["label"].astype(float).between(0, 11.5).all()
