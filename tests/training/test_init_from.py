"""Runs that start from own weights: their score is that of images which these weights have not seen."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from plant_pathology.core.hashes import file_hash
from plant_pathology.core.sealed import read_sealed, write_sealed
from support.commands import TINY, run_module
from support.damage import flipped

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture(scope="module")
def made(packaged, tmp_path_factory) -> Path:
    return Path(shutil.copytree(packaged, tmp_path_factory.mktemp("init") / "f"))


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "f"))


def run_of_fold(folder: Path, fold: int) -> Path:
    suffix = "lr0.001-fold1-*" if fold else "lr0.001-[!f]*"
    (run,) = folder.glob(f"runs/*{suffix}")
    return run


def started(folder: Path, weights: str, *overrides: str):
    first = [each for each in overrides if "=" not in each]
    return run_module(
        *("train", *first, *TINY, "name=started", f"model.init_from={weights}"),
        *(each for each in overrides if "=" in each),
        cwd=folder,
    )


def weights_in(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "best.ckpt", weights_only=True)["state_dict"]


def rename_competition(run: Path) -> None:
    for name in ("run.json", "result.json"):
        content = read_sealed(run / name)
        content["config"]["competition"]["name"] = "other"
        write_sealed(run / name, {key: value for key, value in content.items() if key != "seal"})


def refused(folder: Path, done, line: str) -> None:
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (error,) = [each for each in done.stderr.splitlines() if each.startswith("error:")]
    assert line in error and not list(folder.glob("runs/started*/result.json"))


def test_a_run_starts_where_another_one_of_its_fold_ended(folder):
    source = run_of_fold(folder, 0)
    done = started(folder, source.name, "model.lr=1e-9", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/started*")
    before, after = weights_in(source), weights_in(run)
    learned = [key for key in before if key.endswith(".weight")]
    assert learned and all(torch.allclose(before[key], after[key], atol=1e-6) for key in learned)


@pytest.mark.parametrize("named", [0, 1])
def test_in_a_sweep_each_fold_starts_from_the_run_that_left_it_out_and_all_are_one_candidate(folder, named):
    sources = [run_of_fold(folder, fold) for fold in (0, 1)]
    alone = ("hydra.sweeper.params=null", "train.folds=2", "train.last=1", "trainer.max_epochs=1")
    done = started(folder, sources[named].name, "-m", *alone)
    assert done.returncode == 0, done.stderr
    runs = [folder.glob(f"runs/started{suffix}-????????") for suffix in ("", "-fold1", "-foldall")]
    results = [read_sealed(run / "result.json") for (run,) in runs]
    assert [each["weights"] for each in results] == [file_hash(sources[at] / "best.ckpt") for at in (0, 1, named)]
    done = run_module("select", *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "reports/metrics.json").read_text())["configurations"] == 1


def test_a_sibling_that_only_the_store_has_is_fetched(folder):
    sources = [run_of_fold(folder, fold) for fold in (0, 1)]
    for source in sources:
        shutil.copytree(source, folder / "store/runs" / source.name)
        shutil.rmtree(source)
    done = started(folder, sources[0].name, "data.fold=1", "store.runs=true", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/started*")
    assert read_sealed(run / "result.json")["weights"] == file_hash(sources[1] / "best.ckpt")


@pytest.mark.parametrize("changed", ["seed", "data", "code"])
def test_a_run_with_other_settings_data_or_code_is_no_sibling(folder, changed):
    sibling = run_of_fold(folder, 1)
    for name in ("run.json", "result.json"):
        content = read_sealed(sibling / name)
        (content["config"] if changed == "seed" else content)[changed] = "other"
        write_sealed(sibling / name, {key: value for key, value in content.items() if key != "seal"})
    refused(folder, started(folder, run_of_fold(folder, 0).name, "data.fold=1"), "train that one with data.fold=1, too")


def test_weights_that_have_seen_the_validation_fold_are_refused_before_a_sweep_is_launched(folder):
    source = run_of_fold(folder, 0)
    shutil.rmtree(run_of_fold(folder, 1))
    for overrides in (["data.fold=1"], ["-m", "data.fold=0,1"], ["-m", "train.folds=2"]):
        done = started(folder, source.name, *overrides)
        refused(folder, done, "images that data.fold=1 validates with, so the score would be too high")
    assert not list(folder.glob("runs/started*/metrics.csv"))


def test_weights_of_the_last_training_have_seen_everything(folder):
    assert started(folder, "null", "data.fold=all", "name=last", "trainer.max_epochs=1").returncode == 0
    (last,) = folder.glob("runs/last*")
    refused(folder, started(folder, last.name), "images that data.fold=0 validates with")
    assert started(folder, last.name, "data.fold=all", "trainer.max_epochs=1").returncode == 0


@pytest.mark.parametrize(("prepared", "line"), [("image_size=48", None), ("folds=3", "images that data.fold=0")])
def test_of_another_version_of_the_data_the_images_count(folder, raw, prepared, line):
    source = run_of_fold(folder, 0)
    version = [f"prepare.{prepared}", "data.ref=plant-pathology:2"]
    for module in (["prepare"], ["datastore", "push"]):
        assert run_module(*module, *TINY, f"paths.raw={raw}", f"prepare.{prepared}", cwd=folder).returncode == 0
    done = started(folder, source.name, *version)
    if line:
        refused(folder, done, line)
    else:
        assert done.returncode == 0, done.stderr


def test_weights_of_another_competition_have_seen_none_of_these_images(folder):
    source = run_of_fold(folder, 0)
    rename_competition(source)
    done = started(folder, source.name, "data.fold=1")
    assert done.returncode == 0 and "nothing says" not in done.stdout, done.stderr


def test_a_run_of_another_competition_between_does_not_hide_what_the_weights_have_seen(folder):
    weights = "null"
    for name in ("first", "second"):
        assert started(folder, weights, "data.fold=all", f"name={name}", "trainer.max_epochs=1").returncode == 0
        weights = next(folder.glob(f"runs/{name}-*")).name
    rename_competition(folder / "runs" / weights)
    refused(folder, started(folder, weights), "images that data.fold=0 validates with")


def test_a_bundle_s_network_is_refused_and_its_run_named(folder):
    path = next(folder.glob("models/best/*.safetensors"))
    done = started(folder, str(path))
    refused(folder, done, f"name the run, model.init_from={path.stem}")


def test_a_file_that_tells_nothing_is_used_and_that_is_said_of_the_runs_after_it_too(folder):
    shutil.copy(run_of_fold(folder, 0) / "best.ckpt", folder / "copy.ckpt")
    unknown = "nothing says on which images copy.ckpt was trained"
    done = started(folder, "copy.ckpt", "data.fold=1", "name=copied", "trainer.max_epochs=1")
    assert done.returncode == 0 and unknown in done.stdout, done.stderr
    (run,) = folder.glob("runs/copied*")
    done = started(folder, run.name, "data.fold=1", "trainer.max_epochs=1")
    assert done.returncode == 0 and unknown in done.stdout, done.stderr


def test_damaged_weights_of_a_run_are_refused(folder):
    source = run_of_fold(folder, 0)
    flipped(f"runs/{source.name}/best.ckpt")(folder)
    refused(folder, started(folder, source.name), "best.ckpt")
