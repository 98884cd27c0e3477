"""Wrong options of launchers and sweepers, each refused in one line before the first run starts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import PROJECT, TINY, replace
from support.fault_table import Fault, check, no_run

LAUNCHER, SWEEPER, LISTS = "An option of a launcher", "An option of a sweeper", "What a sweep tries"
OPTUNA, SLURM, SKY = "hydra/sweeper=optuna", "hydra/launcher=submitit_slurm", "hydra/launcher=sky"


def runs(count: int) -> Callable[[Path], None]:
    """Return a function that checks how many runs have finished."""

    def finished(folder: Path) -> None:
        assert len(list((folder / "runs").glob("*/result.json"))) == count

    return finished


def sweep(old: str, new: str) -> Callable[[Path], None]:
    """Return a function that gives a folder a conf/ of its own, with other lines in params.yaml."""

    def make(folder: Path) -> None:
        shutil.copytree(PROJECT / "conf", folder / "conf")
        replace(folder / "conf/params.yaml", old, new)

    return make


REFUSED = [
    (
        LAUNCHER,
        "fewer than no workers",
        "hydra.launcher.workers=-1",
        "hydra.launcher.workers=-1: choose a whole number",
    ),
    (LAUNCHER, "workers in words", "hydra.launcher.workers=two", "hydra.launcher.workers=two: Value 'two' of type"),
    (LAUNCHER, "a mistyped option", "hydra.launcher.wokers=2", "did you mean hydra.launcher.workers?"),
    (LAUNCHER, "a mistyped option, added", "+hydra.launcher.wokers=2", "did you mean hydra.launcher.workers?"),
    (LAUNCHER, "none", "hydra.launcher=null", "hydra.launcher=null: a sweep needs one: leave this out"),
    (SWEEPER, "none", "hydra.sweeper=null", "hydra.sweeper=null: a sweep needs one: leave this out"),
    (
        LAUNCHER,
        "an option of another launcher",
        f"{SLURM} hydra.launcher.workers=2",
        "hydra.launcher.workers: this is an option of hydra/launcher=local: choose that, or leave the option out",
    ),
    (
        SWEEPER,
        "an option of another sweeper",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_jobs: this is an option of hydra/sweeper=optuna: choose that",
    ),
    (LAUNCHER, "no launcher of that name", "hydra/launcher=moon", "hydra/launcher=moon: there is no"),
    (LAUNCHER, "a time limit below zero", f"{SLURM} hydra.launcher.timeout_min=-5", "timeout_min=-5: choose a whole"),
    (LAUNCHER, "no memory", f"{SLURM} hydra.launcher.mem_gb=0", "mem_gb=0: choose a whole number from 1"),
    (
        LAUNCHER,
        "two machines for a run",
        f"{SLURM} hydra.launcher.nodes=2",
        "nodes=2: choose a whole number from 1 to 1",
    ),
    (LAUNCHER, "no jobs at once", f"{SKY} hydra.launcher.parallel=0", "hydra.launcher.parallel=0: choose a whole"),
    (LAUNCHER, "endless pauses", f"{SKY} hydra.launcher.poll_s=inf", "hydra.launcher.poll_s=inf: choose a number"),
    (SWEEPER, "batches of no runs", "hydra.sweeper.max_batch_size=0", "max_batch_size=0: choose a whole number"),
    (SWEEPER, "a mistyped option", "+hydra.sweeper.max_bach_size=2", "did you mean hydra.sweeper.max_batch_size?"),
    (SWEEPER, "a range for a grid", "'model.lr=interval(1e-4,1e-2)'", "does not support sweep type"),
    (SWEEPER, "fewer than no runs at once", f"{OPTUNA} hydra.sweeper.n_jobs=-1", "n_jobs=-1: choose a whole number"),
    (SWEEPER, "no trials", f"{OPTUNA} hydra.sweeper.n_trials=0", "n_trials=0: choose a whole number from 1"),
    (SWEEPER, "half a trial", f"{OPTUNA} hydra.sweeper.n_trials=0.5", "n_trials=0.5: choose a whole number from 1"),
    (SWEEPER, "a seed in letters", f"{OPTUNA} hydra.sweeper.sampler.seed=x", "hydra.sweeper.sampler.seed=x: choose"),
    (
        SWEEPER,
        "a mistyped option of a sampler",
        f"{OPTUNA} +hydra.sweeper.sampler.sed=1",
        "did you mean hydra.sweeper.sam",
    ),
    (SWEEPER, "no sampler of that name", f"{OPTUNA} hydra/sweeper/sampler=luck", "choose one of random, tpe"),
    (SWEEPER, "no database", f"{OPTUNA} hydra.sweeper.storage=nowhere", "hydra.sweeper.storage: Could not parse"),
    (SWEEPER, "a search by runs on all images", f"{OPTUNA} data.fold=0,all", "data.fold=all has no score to search by"),
    (SWEEPER, "a search by the second run on all images", f"{OPTUNA} data.fold=all2", "data.fold=all2 has no score to"),
    (LISTS, "a range without a number", "'model.lr=range(0,0)'", "model.lr=range(0,0): this has no value"),
    (LISTS, "an empty list", "sweep.lr=[]", "sweep.lr=[]: choose text with commas, or a list"),
    (LISTS, "an empty text", "sweep.lr=", "sweep.lr='': choose text with commas, or a list"),
    (LISTS, "two commas", "'sweep.lr=\"1e-3,,1e-2\"'", "sweep.lr=1e-3,,1e-2: choose text with commas"),
    (LISTS, "true for a rate", "sweep.lr=true", "sweep.lr=True: choose text with commas, or a list"),
    (LISTS, "a rate that is no number", "sweep.lr=[1e-3,nan]", "sweep.lr=[0.001, nan]: choose text with commas"),
]
# By a launcher, which first looks at its machines, at the networks and at their weights.
REFUSED_BY_A_LAUNCHER = [
    (
        LAUNCHER,
        "two GPUs for a run on one",
        f"{SLURM} hydra.launcher.gpus_per_node=2",
        "hydra.launcher.gpus_per_node=2, and a run trains on trainer.devices=1",
    ),
    (
        LAUNCHER,
        "a network without weights, on Slurm",
        f"{SLURM} model=test_resnet,resnet19_big model.pretrained=true",
        "timm has no weights of resnet19_big",
    ),
    (
        LAUNCHER,
        "a network without weights, on Kaggle",
        "hydra/launcher=kaggle model=resnet19_big model.pretrained=true",
        "timm has no weights of resnet19_big",
    ),
    (
        LAUNCHER,
        "a network in a folder of this machine, on Kaggle",
        "hydra/launcher=kaggle model.name=local-dir:/nets/own model.pretrained=true",
        "model=local-dir:/nets/own: the machines of hydra/launcher=kaggle have no such folder",
    ),
    (
        LAUNCHER,
        "more GPUs for a run than a session has",
        "hydra/launcher=kaggle trainer.devices=4",
        "trainer.devices=4: a session has hydra.launcher.cards=2",
    ),
    (LAUNCHER, "no Slurm here", SLURM, "hydra.launcher: Could not detect"),
]
TRAINED = "recipe=ours trainer.max_epochs=1"
FAULTS = [
    *(Fault(kind, done, f"train -m {given}", line, also=no_run) for kind, done, given, line in REFUSED),
    *(
        Fault(kind, done, f"train -m {given}", line, also=no_run, slow=True)
        for kind, done, given, line in REFUSED_BY_A_LAUNCHER
    ),
    Fault(
        LISTS,
        "a YAML list in params.yaml, and a single number",
        f"train -m {TRAINED}",
        "test_resnet.r160_in1k-lr0.001-",
        sweep(
            "  model: resnet18,resnet34,resnet50\n  lr: 1e-4,5e-4,1e-3",
            "  model: [test_resnet, test_resnet.r160_in1k]\n  lr: 0.001",
        ),
        code=0,
        also=runs(2),
        slow=True,
    ),
    Fault(
        LISTS,
        "models without quotes",
        "train -m sweep.model=test_resnet,resnet18",
        "so all would be equal: put the values into quotes, sweep.model='test_resnet,resnet18'",
        also=no_run,
    ),
    Fault(
        LISTS,
        "what only prepare reads",
        "train -m 'prepare.near_bits=range(10,30,10)'",
        "prepare.near_bits=range(10,30,10): a run does not depend on prepare, so all would be equal: run the command",
        also=no_run,
    ),
    Fault(LISTS, "folds of a sweep", "train -m train.folds=1,2", "a run does not depend on train", also=no_run),
    Fault(
        LISTS,
        "images of another size than the version's",
        f"train {TRAINED} model=test_resnet prepare.image_size=64",
        "plant-pathology:1 has images of 32 px, which runs train on; prepare.image_size=64 counts once",
        code=0,
        also=runs(1),
        slow=True,
    ),
    Fault(
        LISTS,
        "nothing, and two folds",
        f"train -m {TRAINED} model=test_resnet hydra.sweeper.params=null train.folds=2",
        "test_resnet-lr0.001-fold1-",
        code=0,
        also=runs(2),
        slow=True,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    # Without the model of the other tests: a sweep takes its models from `sweep.model`.
    check(
        fault, fault_folder(fault.start), [*(each for each in TINY if each != "model=test_resnet"), f"paths.raw={raw}"]
    )
