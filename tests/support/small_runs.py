"""Runs small enough for tests."""

from support.commands import TINY, run_module


def train(root, *overrides, expect=0):
    """TINY first, so that what a test overrides wins; Hydra takes -m before all overrides or behind them."""
    flags = [each for each in overrides if each.startswith("-")]
    done = run_module("train", *flags, *TINY, *(each for each in overrides if each not in flags), cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def runs(root, prefix):
    return sorted(path for path in (root / "runs").glob("*/") if path.name.startswith(prefix))
