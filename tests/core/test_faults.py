"""Faults in the config, in a competition's own code and of the system, each with the one line that it gives."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import PROJECT, TINY, replace
from support.fault_table import Fault, check

KEYS, TRAINER = (
    "A key that does not exist, or a value out of range",
    "A key of Lightning's Trainer that breaks a promise",
)
FILES, OWN = "A file of conf/ that cannot be read", "A competition's own code with a mistake"
LOG = "(details: logs/errors.log)"


def conf(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that gives a folder a conf/ of its own and changes it."""

    def make(folder: Path) -> None:
        shutil.copytree(PROJECT / "conf", folder / "conf")
        change(folder / "conf")

    return make


def line(old: str, new: str, file: str = "params.yaml") -> Callable[[Path], None]:
    """Return a function that replaces text in a file of conf/."""
    return conf(lambda folder: replace(folder / file, old, new))


def written(file: str, content: str | bytes) -> Callable[[Path], None]:
    """Return a function that writes a file of conf/ anew."""
    return conf(lambda folder: (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode()))


def own(code: str) -> Callable[[Path], None]:
    """Return a function that gives the sample code of its own."""

    def make(folder: Path) -> None:
        (folder / "competitions").mkdir()
        (folder / "competitions" / "sample.py").write_text(code)

    return make


def no_run(folder: Path) -> None:
    assert not list((folder / "runs").glob("*")), "something was started"


def kept_traceback(folder: Path) -> None:
    assert "Traceback (most recent call last)" in (folder / "logs/errors.log").read_text()


FAULTS = [
    Fault(
        KEYS,
        "a letter left out",
        "select data.bach_size=3",
        "data.bach_size: there is no such key; did you mean data.batch_size?",
        start="raw",
    ),
    Fault(
        KEYS,
        "a key in the wrong section",
        "train data.lr=1",
        "data.lr: there is no such key; did you mean model.lr?",
        start="raw",
    ),
    Fault(KEYS, "a + too many", "train +seed=3", "+seed: this key is there already: leave out the +", start="raw"),
    Fault(
        KEYS,
        "true for a number",
        "train -m trainer.max_epochs=true",
        "trainer.max_epochs=True: choose a whole number from 1 to 1000000",
        also=no_run,
    ),
    Fault(KEYS, "not a number", "train -m stop.after=nan", "stop.after=nan: choose a number from 0 to 1", also=no_run),
    Fault(
        KEYS,
        "without an end",
        "train -m model.weight_decay=inf",
        "model.weight_decay=inf: choose a number from 0 to 100",
        also=no_run,
    ),
    Fault(KEYS, "an empty text", "select paths.models=", "paths.models='': choose text", start="raw"),
    Fault(
        KEYS,
        "a word for a fold",
        "train data.fold=last",
        "data.fold=last: choose a whole number from 0 to 1000000, or all",
    ),
    Fault(KEYS, "yes, which YAML reads as true", "select name=true", "name=True: choose text", start="raw"),
    Fault(
        KEYS,
        "null for a file of a group",
        "select model=null",
        "are groups, each of which takes the name of one",
        start="raw",
    ),
    Fault(
        KEYS,
        "nothing for a file of a group",
        "select recipe=",
        "recipe=: there is no conf/recipe/.yaml; choose",
        start="raw",
    ),
    Fault(
        KEYS, "null for a section", "train trainer=null", "trainer=null: trainer has keys of its own: set", also=no_run
    ),
    Fault(
        KEYS, "a section removed", "select ~stop", "stop.divergence: this key was removed, and is needed", start="raw"
    ),
    Fault(KEYS, "a key removed", "select ~seed", "seed: this key was removed, and is needed", start="raw"),
    Fault(KEYS, "??? for a value", "select seed=???", "seed=???: choose a whole number from 0", start="raw"),
    Fault(
        KEYS,
        "a number format that is not known",
        "train -m trainer.precision=8",
        "trainer.precision=8: choose one of 32-true, 16-mixed, bf16-mixed",
        also=no_run,
    ),
    Fault(
        KEYS,
        "no file of that name in conf/machine/",
        "select machine=abacus",
        "machine=abacus: there is no conf/machine/abacus.yaml; choose one of cpu, cpu-bf16, gpu",
        start="raw",
        also=kept_traceback,
    ),
    Fault(
        KEYS,
        "no file of that name, and what macOS leaves on a disk of another system",
        "select machine=abacus",
        "machine=abacus: there is no conf/machine/abacus.yaml; choose one of cpu, cpu-bf16, gpu",
        written("machine/._cpu.yaml", "\x00\x05\x16\x07"),
        also=kept_traceback,
    ),
    Fault(
        KEYS,
        "a letter that Hydra reads only in quotes",
        "select competition.title=Ähre",
        "competition.title=Ähre: Hydra cannot read this",
        start="raw",
    ),
    Fault(
        KEYS, "a reference to nothing", "select 'name=${nope}'", "name: Interpolation key 'nope' not found", start="raw"
    ),
    Fault(
        TRAINER,
        "two batches to validate on",
        "train +trainer.limit_val_batches=2",
        "trainer.limit_val_batches may not be set: a run trains and validates on all images",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "the same without +",
        "train trainer.limit_val_batches=2",
        "trainer.limit_val_batches may not be set",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "validation every other epoch, in a sweep",
        "train -m +trainer.check_val_every_n_epoch=2",
        "trainer.check_val_every_n_epoch may not be set: a run validates after each epoch",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "no checkpoints",
        "train -m +trainer.enable_checkpointing=false",
        "trainer.enable_checkpointing may not be set: without checkpoints",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "steps instead of epochs",
        "train +trainer.max_steps=10",
        "trainer.max_steps may not be set: the learning rate falls to zero",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "gradients of several batches",
        "train +trainer.accumulate_grad_batches=2",
        "raise data.batch_size",
        also=no_run,
    ),
    Fault(
        TRAINER, "no device", "train trainer.devices=0", "trainer.devices=0: choose a whole number from", also=no_run
    ),
    Fault(
        TRAINER,
        "all GPUs",
        "train -m trainer.devices=auto",
        "trainer.devices=auto: choose a whole number from",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "a strategy for several GPUs",
        "train -m +trainer.strategy=ddp",
        "trainer.strategy may not be set: a run trains on trainer.devices devices",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "a key that Lightning does not know either",
        "train -m +trainer.precison=32-true",
        "trainer.precison: there is no such key; did you mean trainer.precision?",
        also=no_run,
    ),
    Fault(
        TRAINER,
        "a value that Lightning would take for true",
        "train -m +trainer.deterministic=perhaps",
        "trainer.deterministic=perhaps: choose true or false, or null",
        also=no_run,
    ),
    Fault(
        FILES,
        "a bracket left open in params.yaml",
        "select",
        "conf/params.yaml:",
        line("  folds: 5", "  folds: [5"),
        start="raw",
        also=kept_traceback,
    ),
    Fault(
        FILES,
        "a tab in params.yaml",
        "select",
        "conf/params.yaml:6: found character '\\t' that cannot start any token",
        line("prepare:\n", "prepare:\n\tx: 1\n"),
        start="raw",
    ),
    Fault(
        FILES,
        "a key twice in params.yaml",
        "select",
        "found duplicate key seed",
        line("seed: 2021", "seed: 2021\nseed: 3"),
        start="raw",
    ),
    Fault(
        FILES,
        "a letter in Latin-1 in params.yaml",
        "select",
        "conf/params.yaml:3: byte",
        conf(lambda folder: (folder / "params.yaml").write_bytes(b"#\n#\n# \xe4\nseed: 1\n")),
        start="raw",
    ),
    Fault(
        FILES,
        "a list in a machine's file",
        "select machine=cpu",
        "conf/machine/cpu.yaml: it holds a list",
        written("machine/cpu.yaml", "# @package _global_\n- a\n- b\n"),
        start="raw",
    ),
    Fault(
        FILES,
        "a reference to nothing in params.yaml",
        "train -m",
        "data.window: Interpolation key 'nope' not found",
        line("window: 16", "window: ${nope}"),
        also=no_run,
    ),
    Fault(
        FILES,
        "a reference without its end in params.yaml",
        "select",
        "conf/params.yaml: ",
        line("window: 16", "window: ${nope"),
        start="raw",
    ),
    Fault(
        FILES,
        "a competition's file that was copied with the name of the other one",
        "select",
        "conf/competition/sample.yaml: competition.name=other is another file's: write `name: sample`",
        line("  name: sample", "  name: other", "competition/sample.yaml"),
        start="raw",
    ),
    Fault(
        FILES,
        "the same before a sweep",
        "train -m",
        "conf/competition/sample.yaml: competition.name=other is another file's: write `name: sample`",
        line("  name: sample", "  name: other", "competition/sample.yaml"),
        also=no_run,
    ),
    Fault(
        FILES,
        "a competition's file that inherits another one's keys",
        "select",
        "conf/competition/sample.yaml: defaults: DVC would not see when the file changes that it inherits",
        line(
            "# @package _global_",
            "# @package _global_\ndefaults: [plant-pathology-2021-fgvc8, _self_]",
            "competition/sample.yaml",
        ),
        start="raw",
    ),
    Fault(
        FILES,
        "choices.yaml names a file that is not there",
        "select",
        "store=tape: there is no conf/store/tape.yaml; choose one of file, s3",
        line("store: file ", "store: tape ", "choices.yaml"),
        start="raw",
    ),
    Fault(
        FILES,
        "choices.yaml without a group",
        "select",
        "conf/choices.yaml has no line for store",
        line("store: file ", "shop: file ", "choices.yaml"),
        start="raw",
    ),
    Fault(
        FILES,
        "choices.yaml cut",
        "select",
        "conf/choices.yaml:2: expected ',' or ']'",
        written("choices.yaml", "competition: [sample\n"),
        start="raw",
    ),
    Fault(
        FILES,
        "choices.yaml deleted",
        "select",
        "conf/choices.yaml does not exist",
        conf(lambda folder: (folder / "choices.yaml").unlink()),
        start="raw",
    ),
    Fault(
        FILES,
        "params.yaml deleted",
        "select",
        "conf/params.yaml does not exist",
        conf(lambda folder: (folder / "params.yaml").unlink()),
        start="raw",
    ),
    Fault(
        OWN,
        "a bracket left open",
        "prepare",
        "competitions/sample.py, line 1: import fails with SyntaxError",
        own("def open_image(path:\n"),
        start="raw",
    ),
    Fault(
        OWN,
        "a module that is not installed",
        "prepare",
        "competitions/sample.py, line 2: import fails with ModuleNotFoundError: No module named 'nonsense'",
        own("\nimport nonsense\n"),
        start="raw",
    ),
    Fault(
        OWN,
        "an error in read_train",
        "prepare",
        "competitions/sample.py, line 2: read_train fails with KeyError: 'x'",
        own("def read_train(folder):\n    return {}['x']\n"),
        start="raw",
    ),
    Fault(
        OWN,
        "an error in the metric, in a sweep",
        "train -m competition.metric=mine model.lr=1e-3",
        "competitions/sample.py:4: ZeroDivisionError: division by zero: mend",
        own("METRIC_SIGN = 1\nMETRIC_SCORES = 'labels'\ndef mine(true, decided):\n    return 1 / 0\n"),
        slow=True,
    ),
    Fault(
        "A file of ours that was damaged",
        "submission.ipynb is not JSON",
        "package",
        "submission.ipynb is not JSON",
        lambda folder: (
            conf(lambda _: None)(folder),
            (folder / "notebooks").mkdir(),
            (folder / "notebooks/submission.ipynb").write_text("{"),
        ),
        start="packaged",
        slow=True,
    ),
    Fault(
        "The system does not allow it",
        "a file where the folder of runs must be",
        "train",
        "a file is where a folder is needed: move it away",
        lambda folder: (folder / "runs").write_text(""),
        kept=["runs"],
    ),
    Fault(
        "The system does not allow it",
        "a name of 300 letters",
        "train name=" + "x" * 300,
        "File name too long: shorten the name",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw):
    plain = fault.command.split()[0] in ("summary", "look", "choose")
    check(fault, fault_folder(fault.start), [] if plain else [*TINY, f"paths.raw={raw}"])
