"""The bundle labels images that have no labels, those that it is sure of; they train, and never validate."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from plant_pathology.competition.sample import draw
from plant_pathology.competition.spec import Competition
from plant_pathology.data.pseudo_labels import answers, certainty
from plant_pathology.inference.bundle import sha256_of
from plant_pathology.inference.predictor import BATCH_SIZE, Predictor
from support.bundles import change_bundle
from support.commands import TINY, config, run_module

LABELS = ["healthy", "rust", "scab"]


def test_the_certainty_of_an_answer_is_that_of_its_least_certain_label():
    several = np.array([[0.99, 0.02, 0.01], [0.99, 0.6, 0.01]])
    assert certainty(several, "several") == pytest.approx([0.98, 0.6])
    assert certainty(np.array([[0.7, 0.2, 0.1]]), "one") == pytest.approx([0.7])


def test_an_image_without_a_label_or_that_cannot_be_read_has_no_answer():
    outputs = np.array([[0.99, 0.98, 0.0], [0.6, 0.99, 0.0], [0.01, 0.02, 0.0], [np.nan] * 3], np.float32)
    table = answers(["a", "b", "c", "d"], outputs, LABELS, Competition.from_config(config()))
    assert table["labels"][:2].tolist() == ["healthy rust", "healthy rust"]
    assert table["probability"].tolist() == pytest.approx([0.98, 0.6, 0, 0])


def all_healthy(bundle: Path, labels: list[str]) -> None:
    """Let the bundle's networks add to the logit of one label, and take from the others."""
    hashes = json.loads((bundle / "bundle.json").read_text())["files"]
    for path in bundle.glob("*.safetensors"):
        weights = load_file(path)
        weights["fc.bias"] += torch.tensor([3.0 if label == "healthy" else -3.0 for label in labels])
        path.unlink()
        save_file(weights, path)
        hashes[path.name] = sha256_of(path)
    change_bundle(bundle, files=hashes)


def test_what_the_bundle_is_sure_of_trains_and_never_validates(raw, packaged, tmp_path):
    folder = shutil.copytree(packaged, tmp_path / "f")
    draw(tmp_path / "other", seed=5, train=40, test=1)
    shutil.copytree(tmp_path / "other/train_images", folder / "data/extra/leaves/new")
    bundle = folder / "models/best"
    labels = Predictor(bundle).answers.labels
    all_healthy(bundle, labels)
    paths = sorted((folder / "data/extra/leaves/new").iterdir())
    hidden = folder / "data/extra/leaves/.thumbnails"
    hidden.mkdir()
    shutil.copy(paths[0], hidden)
    outputs = np.concatenate([each for _, each in Predictor(bundle).outputs(paths)])
    assert len(paths) > BATCH_SIZE
    sure = np.sort(certainty(outputs, "several"))[len(paths) // 2]
    done = run_module("pseudo_label", "pseudo_label.images=leaves", f"pseudo_label.sure={sure}", *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(folder / "data/extra/leaves-pseudo.csv")
    expected = [f"leaves/new/{paths[place].name}" for place in np.flatnonzero(certainty(outputs, "several") >= sure)]
    assert 0 < len(expected) < len(paths) and table["image"].tolist() == expected
    assert set(table["labels"]) == {"healthy"}
    assert f"{len(table)} of {len(paths)} images labeled" in done.stdout
    done = run_module("prepare", "prepare.extra=leaves-pseudo.csv", *TINY, f"paths.raw={raw}", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{len(table)} extra images of leaves-pseudo.csv train and never validate" in done.stdout
    index = pd.read_csv(folder / "data/prepared/index.csv").set_index("image")
    assert (index.loc["extra:" + table["image"], "fold"] == -1).all()
