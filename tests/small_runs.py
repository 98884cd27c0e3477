"""Runs small enough for tests, in a folder of their own."""

from conftest import run_module

TINY = [
    "competition=sample",
    "prepare.image_size=32",
    "model=test_resnet",
    "trainer.max_epochs=2",
    "data.batch_size=16",
]


def prepared(raw, folder):
    """`folder`, whose data is prepared and pushed."""
    for module, *verb in (["prepare"], ["datastore", "push"]):
        done = run_module(module, *verb, *TINY, f"paths.raw={raw}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def train(root, *overrides, expect=0):
    """TINY first, so that what a test overrides wins; Hydra takes -m before all overrides or behind them."""
    flags = [each for each in overrides if each.startswith("-")]
    done = run_module("train", *flags, *TINY, *(each for each in overrides if each not in flags), cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def runs(root, prefix):
    return sorted(path for path in (root / "runs").glob("*/") if path.name.startswith(prefix))
