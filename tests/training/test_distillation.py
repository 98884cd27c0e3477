"""A network learns from the predictions of a teacher and from the labels, in the share that `model.distill` says."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from plant_pathology.data.index import TEACHER
from plant_pathology.data.predictions import Predictions, read_predictions, write_predictions
from plant_pathology.store.connect import open_version
from plant_pathology.training.augmentation import Augment
from plant_pathology.training.data import StoredData
from plant_pathology.training.distillation import distilled
from plant_pathology.training.loss import training_loss
from support.commands import TINY, config, run_module
from support.small_runs import runs, train

LABELS = 4
SEVERAL, ONE = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]]), torch.tensor([3, 1])
PROBABILITIES = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1]])


@pytest.mark.parametrize(
    "kind, loss, targets",
    [
        ("several", "binary_cross_entropy", SEVERAL),
        ("one", "cross_entropy", ONE),
        ("ordinal", "cross_entropy", ONE),
    ],
)
def test_the_loss_is_the_mean_of_that_of_the_labels_and_that_of_the_teacher(kind, loss, targets):
    logits = torch.randn(2, LABELS, generator=torch.Generator().manual_seed(0))
    share = 0.3
    mean = (1 - share) * training_loss(logits, targets, loss) + share * training_loss(logits, PROBABILITIES, loss)
    assert training_loss(logits, distilled(targets, PROBABILITIES, share, kind), loss) == pytest.approx(mean.item())


def test_numbers_move_towards_those_of_the_teacher():
    targets, teacher = torch.tensor([10.0, 20.0]), torch.tensor([[20.0], [torch.nan]])
    assert distilled(targets, teacher, 0.25, "number").tolist() == [12.5, 20.0]


@pytest.mark.parametrize("kind, targets", [("several", SEVERAL), ("one", ONE)])
def test_an_image_that_the_teacher_did_not_predict_keeps_its_labels(kind, targets):
    teacher = torch.full((2, LABELS), torch.nan)
    shares = targets if kind == "several" else torch.nn.functional.one_hot(targets, LABELS).float()
    assert torch.equal(distilled(targets, teacher, 1.0, kind), shares)


@pytest.fixture(scope="module")
def taught(raw, pushed, tmp_path_factory):
    """Return `pushed` with a second version, whose images have soft labels: each its own, but one image none."""
    folder = tmp_path_factory.mktemp("taught") / "f"
    shutil.copytree(pushed, folder)
    index = pd.read_csv(folder / "data/prepared/index.csv")
    labels = json.loads((folder / "data/prepared/manifest.json").read_text())["labels"]
    names = index["image"].to_numpy(str)[::-1][:-1]  # in another order, without the first
    soft = np.random.default_rng(0).random((len(names), len(labels))).astype(np.float32)
    (folder / "data/extra").mkdir()
    true = index["labels"].str.get_dummies(" ")[labels].to_numpy(bool)[::-1][:-1]
    stored = Predictions(names, labels, true, soft)
    write_predictions(folder / "data/extra/teacher.npz", stored)
    for command in (["prepare", "prepare.teacher=teacher.npz"], ["datastore", "push"]):
        done = run_module(command[0], *command[1:2], *TINY, f"paths.raw={raw}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_each_image_gets_its_own_prediction(taught):
    stored = read_predictions(taught / "data/extra/teacher.npz")
    expected = dict(zip(stored.images.tolist(), stored.outputs.tolist(), strict=True))
    version = open_version(config(f"store.uri=file://{taught}/store", f"paths.root={taught}"))
    augment = Augment(flip=False, rotate=0, crop=1, brightness=0)
    data = StoredData(version, 0, 4, window=2, workers=0, augment=augment, seed=0, distill=True)
    names = np.char.decode(data.training.column("image"), "utf-8")
    seen = 0
    for batch in data._shuffled:
        item = data.training[batch]
        for name, row in zip(names[batch.samples].tolist(), item["teacher"].tolist(), strict=True):
            assert np.isnan(row).all() if name not in expected else row == expected[name]
            seen += name in expected
    assert seen
    assert "teacher" not in data.validation[next(iter(data.val_dataloader().sampler))]


def test_the_same_images_with_and_without_a_teacher_are_two_versions_that_share_shards(taught):
    first, second = (json.loads((taught / f"store/versions/plant-pathology/{n}.json").read_text()) for n in (1, 2))
    assert set(second["files"]) - set(first["files"]) == {TEACHER}
    shards = [name for name in first["files"] if name.startswith("images-")]
    assert shards and all(first["files"][name] == second["files"][name] for name in shards)


def test_a_run_learns_from_it(taught):
    train(taught, "model.distill=1", "name=taught")
    train(taught, "model.distill=0.5", "name=half")
    train(taught, "name=alone")
    losses = {
        name: pd.read_csv(next(run.glob("metrics.csv")))["train_loss"].tolist()
        for name in ("taught", "half", "alone")
        for run in runs(taught, name)
    }
    assert len({tuple(each) for each in losses.values()}) == 3


def test_without_a_teacher_it_is_one_line(pushed, tmp_path):
    folder = shutil.copytree(pushed, tmp_path / "f")
    done = train(folder, "model.distill=0.5", expect=1)
    assert "plant-pathology:1 has no teacher to learn from: set prepare.teacher" in done.stderr


def test_a_teacher_that_predicted_the_validation_fold_alone_is_one_line(taught, raw, tmp_path):
    folder = shutil.copytree(taught, tmp_path / "f")
    stored = read_predictions(folder / "data/extra/teacher.npz")
    index = pd.read_csv(folder / "data/prepared/index.csv").set_index("image")
    of_fold = np.flatnonzero(index.loc[stored.images, "fold"].to_numpy() == 0)
    one = Predictions(stored.images[of_fold], stored.labels, stored.true[of_fold], stored.outputs[of_fold])
    write_predictions(folder / "data/extra/teacher.npz", one)
    for command in (["prepare", "prepare.teacher=teacher.npz"], ["datastore", "push"]):
        assert run_module(command[0], *command[1:2], *TINY, f"paths.raw={raw}", cwd=folder).returncode == 0
    done = train(folder, "model.distill=0.5", expect=1)
    assert "predicted none of the images that train: train more folds of it (train.folds)" in done.stderr
