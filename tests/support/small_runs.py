"""Runs small enough for tests."""

from support.commands import TINY, run_module


def train(root, *overrides, expect=0):
    """Train with the real command line. Overrides follow TINY and win; Hydra wants -m before all overrides."""
    flags = [each for each in overrides if each.startswith("-")]
    done = run_module("train", *flags, *TINY, *(each for each in overrides if each not in flags), cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def runs(root, prefix):
    """List run folders whose name begins with `prefix`."""
    return sorted(path for path in (root / "runs").glob("*/") if path.name.startswith(prefix))
