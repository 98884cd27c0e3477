"""What is seen across runs: which belong to the last sweep, and what they reached.

runs/sweep.json names the runs of a sweep in which all finished. It is written last; while it is not there, the sweep
is not done, and starting the same sweep again does only what is missing.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from plant_pathology.runs import SWEEP
from plant_pathology.stage import StageError, read_json, write_json

INDEX = "sweep.json"


class SweepIndex(Callback):
    """Hydra's callback around a multirun: forgets the last sweep's index, and writes this one's."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        runs = Path(config.paths.runs)
        (runs / INDEX).unlink(missing_ok=True)
        shutil.rmtree(runs / SWEEP, ignore_errors=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        runs = Path(config.paths.runs)
        entered = sorted(entry.name for entry in (runs / SWEEP).glob("*"))
        failed = [name for name in entered if not (runs / name / "result.json").exists()]
        if failed:
            causes = "\n  ".join(f"{name}: {failure_cause(runs / name)}" for name in failed)
            sys.exit(
                f"error: {len(failed)} of {len(entered)} runs failed;"
                f" start the sweep again to do only these\n  {causes}"
            )
        write_json(runs / INDEX, {"runs": entered})
        shutil.rmtree(runs / SWEEP)


def failure_cause(folder: Path) -> str:
    """The last line of the traceback that a failed run left."""
    try:
        return (folder / "failure.txt").read_text().strip().splitlines()[-1] + f" ({folder / 'failure.txt'})"
    except FileNotFoundError:
        return "stopped without a word"


def sweep_results(runs: Path) -> list[dict[str, Any]]:
    """The results of the last sweep's runs, best sample-F1 first, equals by name.

    Raises:
        StageError: there is no finished sweep.
    """
    remedy = "run `python -m plant_pathology.train -m`; it does only what is missing"
    names = read_json(runs / INDEX, remedy)["runs"]
    results = [read_json(runs / name / "result.json", remedy) for name in names]
    if not results:
        raise StageError(f"{runs / INDEX} names no runs: {remedy}")
    return sorted(results, key=lambda result: (-result["f1"], result["run"]))
