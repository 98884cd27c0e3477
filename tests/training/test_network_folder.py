"""Networks that somebody keeps in a folder or a repository of Hugging Face, as timm exports them."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from omegaconf import DictConfig
from timm.models import save_for_hf

from plant_pathology.core.files import read_json
from plant_pathology.training.network import create_network
from support.commands import TINY, run_module

pytestmark = pytest.mark.slow  # it trains


def export(folder: Path, seed: int, architecture: str = "test_resnet", **arguments: object) -> None:
    """Write a network with ten classes of its own, and what timm keeps of how it was made."""
    torch.manual_seed(seed)
    save_for_hf(timm.create_model(architecture, num_classes=10, **arguments), folder)


def in_cache(folder: Path, repository: str) -> None:
    """Put an exported network where Hugging Face's library keeps what it downloaded."""
    place = folder / "cache" / "hub" / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder / "net", place / "snapshots" / "0a0a")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0a0a")


def sweep(folder: Path, name: str):
    overrides = [each for each in TINY if not each.startswith(("model=", "trainer.max_epochs="))]
    overrides += [
        "trainer.max_epochs=1",
        "train.folds=1",
        f"sweep.model={name}",
        "sweep.lr=1e-3",
        "model.pretrained=true",
    ]
    done = run_module("train", "-m", *overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def folder(pushed, tmp_path) -> Path:
    return Path(shutil.copytree(pushed, tmp_path / "f"))


@pytest.mark.parametrize("name", ["local-dir:net", "hf-hub:team/net"])
def test_a_network_of_a_repository_is_trained_selected_and_predicts_without_it(folder, name, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(folder / "cache"))
    export(folder / "net", 1, "test_vit", img_size=32)
    in_cache(folder, "team/net")
    said = sweep(folder, name).stdout
    assert f"nothing says on which images {name} was trained" in said
    shutil.rmtree(folder / "cache")
    shutil.rmtree(folder / "net")
    done = run_module("select", *TINY, "train.folds=1", cwd=folder)
    assert done.returncode == 0, done.stderr
    (member,) = read_json(folder / "models/best/bundle.json", "")["members"]
    assert member["architecture"] == "test_vit" and "num_classes" not in member["arguments"]


def test_other_files_in_the_folder_of_a_network_make_another_run(folder):
    export(folder / "net", 1)
    sweep(folder, "local-dir:net")
    assert "finished before" in sweep(folder, "local-dir:net").stdout
    export(folder / "net", 2)
    assert "finished before" not in sweep(folder, "local-dir:net").stdout
    assert len(list(folder.glob("runs/local-dir-net-*/result.json"))) == 2


@pytest.mark.parametrize("drop_path", [0, 0.1])
def test_drop_path_is_that_of_the_config_not_of_the_export(tmp_path, drop_path):
    export(tmp_path / "net", 1, "test_vit")
    config = json.loads((tmp_path / "net/config.json").read_text())
    config["model_args"]["drop_path_rate"] = 0.2
    (tmp_path / "net/config.json").write_text(json.dumps(config))
    named = {"name": f"local-dir:{tmp_path / 'net'}", "pretrained": False, "init_from": None, "drop_path": drop_path}
    last = create_network(DictConfig(named), outputs=6, sides=[160]).module.blocks[-1].drop_path1
    assert getattr(last, "drop_prob", 0) == pytest.approx(drop_path)
