"""Summarize the pipeline's result: leaderboard, best run, bundle, rehearsal, and the next commands.

With --verdict, print only the rehearsal's verdict, and exit with an error unless it passed.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from plant_pathology.core.ending import program
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.sealed import check_hashes, trusted
from plant_pathology.core.text import fitting_table, plain_console
from plant_pathology.kernel.package import REHEARSAL, folder_hashes, score_told
from plant_pathology.kernel.rules import read_metadata

REPORTS, KERNELS = Path("reports"), Path("kernels")
REPRO = "run `make repro`"
INDENT = "\n" + " " * 11  # a second line of text begins below the first


@program
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m plant_pathology.summary", description=__doc__)
    parser.add_argument("--verdict", action="store_true", help="print only the rehearsal's verdict; fail if it failed")
    if parser.parse_args().verdict:
        print_verdict(read_rehearsal())
    else:
        summarize()


def read_rehearsal() -> dict[str, Any]:
    """Return the content of rehearsal.json.

    Raises:
        UserError: it is missing or damaged, or another kernel than today's was rehearsed.
    """
    rehearsal = trusted(REPORTS / REHEARSAL, REPRO)
    if rehearsal["sha256"] != folder_hashes(KERNELS):
        raise UserError(f"{REPORTS / REHEARSAL} is of another kernel than {KERNELS}/ holds: {REPRO}")
    return rehearsal


def print_verdict(rehearsal: dict[str, Any]) -> None:
    """Print the verdict.

    Raises:
        SystemExit: the rehearsal failed; the message lists the failed checks.
    """
    if rehearsal["verdict"] != "passed":
        failed = [f"{name}: {detail}" for name, detail in rehearsal["checks"].items() if detail != "passed"]
        sys.exit("error: the rehearsal failed; Kaggle would fail the same way\n  " + "\n  ".join(failed))
    print("the rehearsal passed")


def summarize() -> None:
    """Print the leaderboard, the best run, the bundle, the rehearsal and the next commands.

    Raises:
        UserError: a stage of the pipeline has not written its file, it is damaged, or is about another bundle.
    """
    selection = trusted(REPORTS / "selection.json", REPRO)
    rehearsal = read_rehearsal()
    check_hashes(REPORTS, selection["files"], REPRO)
    if rehearsal["bundle"] != selection["bundle"]:
        raise UserError(f"{REPORTS}/rehearsal.json is of another bundle than {REPORTS}/selection.json: {REPRO}")
    metrics = read_json(REPORTS / "metrics.json", REPRO)
    kernel = read_metadata(KERNELS / "submission", "kernel")
    with (REPORTS / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        board = list(csv.DictReader(file))
    console = plain_console(100)
    console.print(leaderboard_table(board, metrics, console))
    for row in board:
        if row["left_out"]:
            console.print(f"left out   {row['run']} {row['left_out']}", soft_wrap=True)
    console.print(f"best       {metrics['run']}, {metrics['metric']} {metrics['run_score']:.4f} out of fold")
    console.print(f"bundle     {describe_bundle(metrics)}")
    console.print(f"rehearsal  {describe_rehearsal(rehearsal)}")
    console.print(f"report     {REPORTS / 'index.html'}: open it in a browser")
    console.print(next_steps(metrics, kernel), soft_wrap=True)


def leaderboard_table(board: list[dict[str, str]], metrics: dict[str, Any], console: Console) -> Table:
    origin = "embedded sample, not real images" if metrics["synthetic"] else metrics["competition"]
    columns = ("run", metrics["metric"], "95 %", "best epoch", "seconds")
    rows = []
    for row in board[:12]:
        epoch = f"{row['best_epoch']}/{row['epochs']}" + (" stopped" if row["stopped"] else "")
        name = row["run"] + (f" x{row['folds']}" if row["folds"] != "1" else "")
        interval = f"{float(row['low']):.3f}-{float(row['high']):.3f}"
        rows.append((name, f"{float(row['score']):.4f}", interval, epoch, f"{float(row['seconds']):.0f}"))
    return fitting_table(console, columns, rows, ("run",), ("seconds", "best epoch", "95 %"), f"Leaderboard ({origin})")


def describe_bundle(metrics: dict[str, Any]) -> str:
    """Describe the bundle: its size, its cross-fitted score, and the ensemble's gain over the best configuration."""
    gain, used = metrics["ensemble"], metrics["ensemble"]["used"]
    size = f"an ensemble of {gain['configurations']}" if used else "the best alone"
    noise = ", noise" if gain["noise"] else ""
    difference = f"ensemble against best {gain['gain']:+.4f} ({gain['low']:.4f} to {gain['high']:.4f}){noise}"
    lines = [f"{size}, {metrics['metric']} {metrics['score']:.4f} on images that it was not tuned on"]
    if metrics.get("on_all_images"):
        lines.append("networks trained on all images predict, too; the score is of those that left out a fold")
    return f";{INDENT}".join([*lines, difference] if gain["rule"] else lines)


def describe_rehearsal(rehearsal: dict[str, Any]) -> str:
    """Describe the rehearsal: verdict, isolation, time and memory per test set, time on Kaggle, and the score."""
    lines = [f"{rehearsal['verdict']}, network off by {rehearsal['isolation']}"]
    if rehearsal["isolation_reason"]:
        lines.append(f"not by namespace: {rehearsal['isolation_reason']}")
    lines += [
        f"{trial['images']} {name} test images in {trial['seconds']:.0f} s and {trial['peak_memory_mb']} MB"
        for name, trial in rehearsal["test_sets"].items()
    ]
    estimate, hour = rehearsal["estimate"], 3600
    if estimate["seconds"] is not None:
        hours, limit = estimate["seconds"] / hour, estimate["limit"] / hour
        lines.append(f"{estimate['images']} would take {hours:.2f} of {limit:g} hours on Kaggle")
    if told := score_told(rehearsal):
        lines.append(told)
    return INDENT.join(lines)


def next_steps(metrics: dict[str, Any], kernel: dict[str, Any]) -> str:
    steps = ["python -m plant_pathology.submit"]
    if kernel["id"].startswith("KAGGLE_USERNAME/"):
        steps.insert(0, "set package.owner in conf/params.yaml to your Kaggle user name, then make repro")
    if metrics["synthetic"]:
        steps.insert(0, "make download, or make repro RAW=<competition folder>: the same on real images, worth pushing")
    return "next       " + INDENT.join(steps)


if __name__ == "__main__":
    main()
