"""Whole pipelines on pictures whose color is their label, for answers that the sample does not ask for."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from support.commands import TINY, run_module

pytestmark = pytest.mark.slow  # each test trains a network

COLORS = {"": (40, 40, 40), "red": (220, 40, 40), "green": (40, 220, 40), "red green": (220, 220, 40)}


def draw(raw, kinds, table, train=100, test=24):
    """Draw pictures of these kinds in turn, and write train.csv, the form and solution.csv.

    Args:
        kinds: keys of COLORS.
        table: returns the cells besides the id of a list of kinds, by column.
    """
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        drawn = [kinds[number % len(kinds)] for number in range(count)]
        (raw / part).mkdir(parents=True)
        for number, kind in enumerate(drawn):
            pixels = rng.integers(-30, 30, (48, 48, 3)) + COLORS[kind]
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(raw / part / f"{number}.png")
        name = "train.csv" if part == "train" else "solution.csv"
        pd.DataFrame({"id": range(count), **table(drawn)}).to_csv(raw / name, index=False)


def columns(drawn):
    return {color: [int(color in kind) for kind in drawn] for color in ("red", "green")}


def finish(root, form, target, metric, submit):
    """Run the pipeline up to the rehearsal, and return its report with the submission."""
    raw = root / "data/raw/colors"
    form.to_csv(raw / "sample_submission.csv", index=False)
    settings = [
        *TINY,
        "competition.name=colors",
        "competition.train.files='train/{id}.png'",
        "competition.test.files='test/{id}.png'",
        f"competition.target={target}",
        f"competition.metric={metric}",
        f"competition.submit={submit}",
        "machine=cpu",
        "package.owner=tester",
    ]
    given = [f"rehearse.test_images={raw / 'test'}", f"rehearse.solution={raw / 'solution.csv'}"]
    for module, *rest in (
        ["prepare"],
        ["datastore", "push"],
        ["train", "-m", "sweep.model=test_resnet", "sweep.lr=1e-2", "trainer.max_epochs=4"],
        ["select"],
        ["package"],
        ["rehearse", "rehearse.images=100", *given],
    ):
        done = run_module(module, *rest, *settings, cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((root / "reports/rehearsal.json").read_text())
    return report, pd.read_csv(root / "reports/rehearsal/submission.csv", index_col="id")


def test_where_labels_have_columns_an_image_may_get_none(tmp_path):
    raw = tmp_path / "data/raw/colors"
    draw(raw, ["", "red", "", "green", "", "red green"], columns)
    form = pd.DataFrame({"id": range(24), "green": 0, "red": 0})
    report, submission = finish(tmp_path, form, "{kind:several,column:null,labels:null}", "accuracy", "{as:columns}")
    true = pd.read_csv(raw / "solution.csv", index_col="id")
    right = (submission.loc[true.index, ["red", "green"]] == true).all(axis=1)
    assert report["score"] == right.mean() > 0.9 and (submission.sum(axis=1) == 0).any()
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert metrics["score"] > 0.9 and metrics["decision"]["empty"]


def test_the_probability_of_one_label_of_several_is_scored_alone(tmp_path):
    """The other labels are told apart by nothing: their AUC is near 0.5, and that of red is 1."""
    raw = tmp_path / "data/raw/colors"
    draw(raw, ["red", "green", "red", "green"], lambda drawn: {"kind": kinds_of_leaves(drawn)})
    form = pd.DataFrame({"id": range(24), "kind": 0.5})
    report, submission = finish(
        tmp_path,
        form,
        "{kind:one,column:kind,labels:null}",
        "roc_auc",
        "{as:probability,positive:red}",
    )
    true = pd.read_csv(raw / "solution.csv", index_col="id")["kind"] == "red"
    probability = submission["kind"][true.index]
    assert probability[true].min() > probability[~true].max() and report["score"] == 1
    assert json.loads((tmp_path / "reports/metrics.json").read_text())["score"] == 1
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["score"] == 1


def kinds_of_leaves(drawn):
    """Call every other green picture a leaf, and the others grass, though they look alike."""
    return [kind if kind == "red" else ("leaf", "grass")[place // 2 % 2] for place, kind in enumerate(drawn)]
