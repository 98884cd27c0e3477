"""Run all benchmarks and compare their ratios with the goals; write them to reports/bench.json.

    python benchmarks/bench.py [name ...]

A ratio compares two measurements of one run on one machine, so it is meaningful on any machine; seconds are not.
"""

import argparse
import importlib
import json
import operator
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from plant_pathology.core.files import write_json

REPORT = Path("reports/bench.json")
GOALS = {  # what the project promises, per ratio
    "prepare": {"images_per_second_vs_full_decode": (">=", 4), "seconds_vs_decode_floor": ("<=", 1.2)},
    "store": {"push_vs_boto3": (">=", 20), "push_vs_dvc": (">=", 1)},
    "loader": {
        "cpu_augment_vs_originals": (">=", 80),
        "cpu_augment_vs_imagefolder": (">=", 2),
        "cpu_augment_jpeg_vs_litdata": (">=", 2),
        "device_augment_vs_imagefolder": (">=", 20),
        "memory_growth_over_10_epochs": ("<=", 1.02),
        "memory_growth_over_10_epochs_2_workers": ("<=", 1.02),
    },
    "stream": {"first_batch_vs_full_download": ("<=", 0.5), "epoch_vs_full_download": ("<=", 1)},
    "step": {"step_vs_plain_loop": ("<=", 1.05)},
    "sweep": {"nine_runs_vs_training_time": ("<=", 1.15), "overhead_seconds_a_run": ("<=", 0.5)},
    "kernel": {
        "kernel_vs_larger_of_decode_and_model": ("<=", 1.25),
        "kernel_vs_shared_cores": ("<=", 1.25),
        "memory_5000_vs_1000_images": ("<=", 1.05),
    },
    "gpu": {},  # where torch finds one
    "scale": {"seconds_to_open_a_million_rows": ("<=", 1)},
}
COMPARE = {">=": operator.ge, "<=": operator.le}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"one or more of {', '.join(GOALS)}; default: all")
    names = parser.parse_args().names or list(GOALS)
    if sys.platform == "win32":
        sys.exit("error: Windows is not supported: run this in WSL, the Windows Subsystem for Linux")
    if unknown := set(names) - set(GOALS):
        parser.error(f"no benchmark {', '.join(unknown)}: choose from {', '.join(GOALS)}")
    measured = json.loads(REPORT.read_text())["ratios"] if REPORT.exists() else {}
    for name in names:
        Console().rule(name)
        measured[name] = {key: round(value, 4) for key, value in importlib.import_module(name).measure().items()}
    write_json(REPORT, {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "ratios": measured})
    table = Table("benchmark", "ratio", "measured", "goal", "")
    for name in names:
        for key, value in measured[name].items():
            sign, goal = GOALS[name].get(key, ("", ""))
            verdict = "" if not sign else "reached" if COMPARE[sign](value, goal) else "MISSED"
            table.add_row(name, key, f"{value:g}", f"{sign} {goal}", verdict)
    Console(width=None if os.isatty(1) else 110).print(table)


if __name__ == "__main__":
    main()
