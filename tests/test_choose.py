"""Choose a competition folder with `make repro RAW=<folder>`: it is linked, and the config names it."""

import shutil

import pytest
import yaml
from omegaconf import OmegaConf
from timm import get_pretrained_cfg as cfg_of

from plant_pathology.choose import detect_machine
from support.commands import PROJECT, replace, run_module

CONF = PROJECT / "conf"
NAME = "plant-pathology-2021-fgvc8"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a folder with conf/ and an empty competition, on a machine without pretrained weights and connection."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    (tmp_path / "elsewhere" / NAME).mkdir(parents=True)
    return tmp_path


def choices(checkout):
    return yaml.safe_load((checkout / "conf" / "choices.yaml").read_text())


def test_the_folder_is_linked_not_copied_and_the_config_names_it(checkout):
    done = run_module("choose", f"elsewhere/{NAME}", cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert (checkout / "data/raw" / NAME).is_symlink()
    assert (checkout / "data/raw" / NAME).resolve() == checkout / "elsewhere" / NAME
    chosen = choices(checkout)
    assert chosen["competition"] == NAME and chosen["machine"] in ("cpu", "cpu-bf16", "gpu")
    assert chosen["recipe"] == ("ours" if chosen["machine"] == "gpu" else "scratch")
    # Comments stay in their column.
    before = (checkout / "conf/choices.yaml").read_text()
    column = [line.find("#") for line in (CONF / "choices.yaml").read_text().splitlines() if line.startswith("machine")]
    assert [line.find("#") for line in before.splitlines() if line.startswith("competition")] == column
    # Choosing again changes nothing.
    assert run_module("choose", f"data/raw/{NAME}", cwd=checkout).returncode == 0
    assert (checkout / "conf" / "choices.yaml").read_text() == before


@pytest.mark.slow
@pytest.mark.skipif(detect_machine() == "gpu", reason="there is a GPU, whose recipe is ours anyway")
def test_without_a_gpu_the_recipe_starts_from_pretrained_weights_where_they_can_be_had(checkout):
    done = run_module("choose", f"elsewhere/{NAME}", cwd=checkout)
    assert "recipe=scratch, not finetune: model=tf_efficientnet_lite0: " in done.stdout
    assert choices(checkout)["recipe"] == "scratch"

    repository = checkout / "cache/hub" / ("models--" + cfg_of("tf_efficientnet_lite0").hf_hub_id.replace("/", "--"))
    (repository / "snapshots/1").mkdir(parents=True)
    (repository / "snapshots/1/model.safetensors").write_bytes(b"")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("1")
    shutil.copytree(CONF, checkout / "conf", dirs_exist_ok=True)
    run_module("choose", f"elsewhere/{NAME}", cwd=checkout)
    assert choices(checkout)["recipe"] == "finetune"


@pytest.mark.parametrize("name, written", [("mine", "mine"), ("true", '"true"'), ("null", '"null"'), ("1e5", '"1e5"')])
def test_what_is_written_is_read_as_the_name(checkout, name, written):
    file = checkout / "conf/choices.yaml"
    replace(file, "competition: sample", "competition:  sample")
    shutil.copy(CONF / "competition" / f"{NAME}.yaml", checkout / "conf/competition" / f"{name}.yaml")
    done = run_module("choose", f"elsewhere/{NAME}", name, cwd=checkout)
    assert done.returncode == 0 and f"competition: {name}, " in done.stdout, done.stderr
    assert choices(checkout)["competition"] == name and f"competition: {written} " in file.read_text()


@pytest.mark.parametrize(
    "line", ['"competition": sample', "competition:\n  sample", "competition: sample\ncompetition: sample", "recipe: ["]
)
def test_a_line_that_cannot_be_changed_is_one_error_and_stays(checkout, line):
    file = checkout / "conf/choices.yaml"
    replace(file, "competition: sample", line)
    before = file.read_text()
    done = run_module("choose", f"elsewhere/{NAME}", cwd=checkout)
    told = f"conf/choices.yaml: the choice of competition cannot be changed there: write the line `competition: {NAME}`"
    assert done.returncode == 1 and told in done.stderr and file.read_text() == before
    assert not list((checkout / "conf").glob(".choices*"))


def test_the_home_folder_is_found_where_the_shell_leaves_the_tilde(checkout):
    done = run_module("choose", f"~/elsewhere/{NAME}", cwd=checkout, HOME=str(checkout))
    assert done.returncode == 0, done.stderr
    assert (checkout / "data/raw" / NAME).resolve() == checkout / "elsewhere" / NAME


def test_a_downloaded_folder_stays_where_it_is(checkout):
    (checkout / "data/raw" / NAME).mkdir(parents=True)
    assert run_module("choose", f"data/raw/{NAME}", cwd=checkout).returncode == 0
    assert not (checkout / "data/raw" / NAME).is_symlink() and choices(checkout)["competition"] == NAME


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["nowhere"], "RAW=nowhere: this folder does not exist"),
        (
            ["elsewhere"],
            "conf/competition/elsewhere.yaml does not exist: `make competition RAW=elsewhere` writes a first one, or"
            " choose COMPETITION=<name> from aerial-cactus-identification, ",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_error_line(checkout, arguments, expected):
    done = run_module("choose", *arguments, cwd=checkout)
    assert done.returncode == 1 and expected in done.stderr
    assert not (checkout / "data").exists()


def test_files_that_are_already_there_are_not_replaced(checkout):
    (checkout / "data/raw" / NAME).mkdir(parents=True)
    (checkout / "data/raw" / NAME / "train.csv").write_text("mine")
    done = run_module("choose", f"elsewhere/{NAME}", cwd=checkout)
    assert done.returncode == 1 and "already holds files" in done.stderr
    assert (checkout / "data/raw" / NAME / "train.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "path", sorted(path for group in ("machine", "recipe") for path in CONF.glob(f"{group}/*.yaml"))
)
def test_every_key_that_a_machine_or_recipe_sets_is_in_params_yaml(path):
    known = OmegaConf.load(CONF / "params.yaml")
    flat = {key for key, _ in leaves(OmegaConf.load(path)) if key.partition(".")[0] not in ("defaults", "recipe")}
    missing = {key for key in flat if OmegaConf.select(known, key, default=...) is ...}
    assert not missing


def leaves(config, prefix=""):
    for key, value in config.items():
        yield from leaves(value, f"{prefix}{key}.") if OmegaConf.is_dict(value) else [(f"{prefix}{key}", value)]
