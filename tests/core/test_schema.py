"""Every config key is in the schema, with a value that it allows; and no code reads a key that is not."""

import ast
import inspect

import pytest
from omegaconf import OmegaConf

from hydra_plugins.option_check import OPTIONS
from plant_pathology.core.errors import UserError
from plant_pathology.core.keys import keys_of, leaves
from plant_pathology.core.reference import config_groups, help_text, markdown, plugin_options
from plant_pathology.core.schema import MORE, REFUSED_OF_TRAINER, Config, check_config
from support.commands import PROJECT, config, run_module

KEYS = {each.name: each for each in keys_of(Config)}
SECTIONS = {name.rpartition(".")[0] for name in KEYS} | {name.split(".")[0] for name in KEYS if "." in name}
CHOICES = [f"{group}={choice}" for group, choices in config_groups().items() for choice in choices if " " not in choice]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_conf_sets_known_keys_to_allowed_values(choice):
    cfg = config(choice)
    check_config(cfg)
    given = {name for name, _ in leaves(OmegaConf.to_container(cfg)) if not name.startswith("hydra.")}
    assert given <= KEYS.keys()
    assert {name for name in KEYS.keys() - given if not name.startswith("logger.")} == set()


def test_the_defaults_of_the_schema_are_those_of_params():
    for file, prefixes in (("params", ("",)), ("config", ("competition.", "paths.", "watch."))):
        for name, value in leaves(OmegaConf.to_container(OmegaConf.load(PROJECT / f"conf/{file}.yaml"))):
            if name.startswith(prefixes):
                assert KEYS[name].default == value, name


def test_every_key_says_what_it_means_and_every_number_has_a_range():
    for name, each in KEYS.items():
        assert each.meaning and not each.meaning.endswith("."), name
        if each.type in (int, float) and not each.choices:
            assert each.low is not None and each.high is not None, f"{name} has no range"


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.batch_size=0", "data.batch_size=0: choose a whole number from 1 to 65536"),
        ("data.batch_size=1.5", "data.batch_size=1.5: choose a whole number from 1 to 65536"),
        ("data.batch_size=true", "data.batch_size=True: choose a whole number from 1 to 65536"),
        ("data.views=3", "data.views=3: choose one of 1, 2, 4, 8"),
        ("model.lr=nan", "model.lr=nan: choose a number from 0 to 100"),
        ("model.lr=fast", "model.lr=fast: choose a number from 0 to 100"),
        ("data.augment.flip=3", "data.augment.flip=3: choose true or false"),
        ("seed=null", "seed=null: choose a whole number from 0 to 4294967295"),
        ("+data.bach_size=3", "data.bach_size: there is no such key; did you mean data.batch_size?"),
        ("+model.droput=0.1", "model.droput: there is no such key"),
        ("competition.target.labels=rust", "competition.target.labels=rust: choose a list, or null"),
        ("stop.divergence=-1", "stop.divergence=-1: choose a number from 0 to 1000000000, or null"),
    ],
)
def test_a_wrong_key_or_value_is_one_error_that_says_what_may_be_chosen(override, message):
    with pytest.raises(UserError) as error:
        check_config(config(override))
    assert str(error.value).startswith(message)


def test_a_key_of_lightning_s_trainer_passes():
    check_config(config("+trainer.gradient_clip_algorithm=value", "+trainer.detect_anomaly=true"))


def test_each_key_of_lightning_s_trainer_is_passed_on_or_refused():
    pl = pytest.importorskip("pytorch_lightning")
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    ours = {name.removeprefix("trainer.") for name in KEYS if name.startswith("trainer.")}
    further = {each.name for each in keys_of(MORE["trainer"])}
    assert known == ours | further | REFUSED_OF_TRAINER.keys()
    assert len(known) == len(ours) + len(further) + len(REFUSED_OF_TRAINER)


def test_what_may_be_null_or_look_like_a_number_passes():
    check_config(config("prepare.workers=null", "store.name=2021", "package.owner=123", "stop.divergence=5"))


def test_a_wrong_value_ends_a_command_with_one_line(tmp_path):
    done = run_module("select", "select.networks=0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: select.networks=0: choose a whole number from 1 to 1000\n"


def test_help_shows_every_key_with_its_meaning_and_the_value_that_it_would_have(tmp_path):
    done = run_module("train", "--help", "machine=gpu", "model.lr=0.5", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("Train: ")
    assert "  model.lr=0.5\n" in done.stdout and "  trainer.accelerator=gpu\n" in done.stdout
    words = " ".join(help_text(config()).split())
    for name, each in KEYS.items():
        assert f"{name}=" in done.stdout and " ".join(each.meaning.split()) in words


def test_the_page_of_keys_is_what_the_schema_says():
    page = (PROJECT / "docs/config.md").read_text(encoding="utf-8")
    assert page == markdown(), "run `make docs`"


def chains():
    """Yield every file and attribute chain behind `cfg` or `config`, such as data.fold of run.cfg.data.fold."""
    for path in sorted((PROJECT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and id(node) not in inner:
                names, below = [node.attr], node.value
                while isinstance(below, ast.Attribute) and below.attr not in ("cfg", "config"):
                    names, below = [below.attr, *names], below.value
                root = below.attr if isinstance(below, ast.Attribute) else getattr(below, "id", None)
                if root in ("cfg", "config"):
                    yield path, ".".join(names)


def test_no_code_reads_a_key_that_is_not_in_the_schema():
    top = {name.split(".")[0] for name in KEYS}
    read = [(path, chain) for path, chain in chains() if chain.split(".")[0] in top]
    assert len(read) > 50
    for path, chain in read:
        parts = chain.split(".")
        prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
        known = prefixes & KEYS.keys() or chain in SECTIONS or parts[-1] in ("items", "keys", "copy", "get")
        assert known or parts[0] in MORE, f"{path.name} reads {chain}"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["hydra.launcher.workers=-1"], "hydra.launcher.workers=-1: choose a whole number from 1 to 1024, or null"),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=-1"], "hydra.sweeper.n_jobs=-1: choose a whole number from 1"),
    ],
)
def test_a_wrong_option_of_a_launcher_or_sweeper_ends_the_sweep_before_it_begins(tmp_path, overrides, message):
    done = run_module("train", "-m", "competition=sample", *overrides, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {message}") and "Traceback" not in done.stderr


def test_the_defaults_of_the_search_are_those_of_its_file():
    stored = OmegaConf.to_container(OmegaConf.load(PROJECT / "conf/hydra/sweeper/optuna.yaml"))
    options = {title: list(keys_of(owner)) for title, _, owner in plugin_options()}
    assert options.keys() == OPTIONS.keys() - {"hydra/launcher=submitit_local"}
    own = {each.name: each.default for each in options["hydra/sweeper=optuna"] if not each.name.startswith("sampler.")}
    assert own.items() <= stored.items()
