"""Runs small enough for tests."""

from plant_pathology.core.sealed import write_sealed
from plant_pathology.runs.finished import TRUSTED, write_result
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


def finish(folder, result):
    """Finish a run that was not trained: write result.json, run.json, and empty files that it vouches for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TRUSTED:
        if not (folder / name).exists():
            (folder / name).write_bytes(b"")
    known = {"run": folder.name, "config": {}, "data": "", "code": ""} | result
    write_sealed(folder / "run.json", {"threads": 1, "data_ref": "plant-pathology:1"} | known)
    return write_result(folder, known)
