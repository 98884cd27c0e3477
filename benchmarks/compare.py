"""Compare values of one config key: train each value with several seeds and show mean and spread of the scores.

    python benchmarks/compare.py recipe=original,ours
    python benchmarks/compare.py data.augment.rotate=20,180 seeds=5 trainer.max_epochs=30

Other arguments are passed to the runs. The data version is the one that datastore.json points to; the runs are in
runs-compared/, apart from those of the sweep. If all values cost the same per epoch, the comparison is at equal
compute; the table shows the seconds. Start it again to do what is missing.
"""

import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

from plant_pathology.sweeps.index import sweep_results

RUNS = "runs-compared"


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or "=" not in arguments[0]:
        sys.exit(__doc__)
    key, values = arguments[0].split("=", 1)
    seeds = int(next((each.removeprefix("seeds=") for each in arguments if each.startswith("seeds=")), 3))
    others = [each for each in arguments[1:] if not each.startswith("seeds=")]
    name = f"name=${{{key}}}-seed${{seed}}"
    command = [sys.executable, "-m", "plant_pathology.train", "-m", f"{key}={values}", f"seed=range({seeds})"]
    # Remove the model and learning rate axes that conf/ sweeps by default.
    done = subprocess.run([*command, *others, "hydra.sweeper.params=null", f"paths.runs={RUNS}", name])
    if done.returncode:
        sys.exit(done.returncode)
    show(scores_by_value())


def scores_by_value() -> dict[str, list[dict]]:
    """Return the results of the last sweep, grouped by the value of the key, sorted by seed."""
    grouped: dict[str, list[dict]] = {}
    for result in sorted(sweep_results(Path(RUNS)), key=lambda result: result["run"]):
        if result["score"] is not None:  # of a run on all images
            grouped.setdefault(result["run"].rpartition("-seed")[0], []).append(result)
    return grouped


def show(grouped: dict[str, list[dict]]) -> None:
    table = Table()
    metric = next(iter(grouped.values()))[0]["metric"]
    for column in ("", "mean", "sd", f"{metric} of each seed", "seconds per run"):
        table.add_column(column, justify="left" if not column else "right")
    for value, results in sorted(grouped.items(), key=lambda item: -mean(each["val_score"] for each in item[1])):
        scores = [result["score"] for result in results]
        spread = f"{stdev(scores):.4f}" if len(scores) > 1 else ""
        each = " ".join(f"{score:.4f}" for score in scores)
        seconds = f"{mean(result['seconds'] for result in results):.0f}"
        table.add_row(value, f"{mean(scores):.4f}", spread, each, seconds)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


if __name__ == "__main__":
    main()
