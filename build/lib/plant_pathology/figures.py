"""The sweep as pictures: what people would rather look at than read."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure


def grid(board: pd.DataFrame, path: Path, origin: str) -> None:
    """Heatmap of the best sample-F1 over model and learning rate.

    Args:
        board: the leaderboard; runs that share model and lr count by their best.
        path: of the .svg.
        origin: whose images these are, for the title.
    """
    table = board.pivot_table(index="model", columns="lr", values="sample_f1", aggfunc="max", sort=True)
    figure = Figure(figsize=(1.6 + 1.3 * table.shape[1], 1.6 + 0.7 * table.shape[0]), layout="constrained")
    axes = figure.subplots()
    axes.imshow(table, cmap="YlGn", aspect="auto")
    middle = (table.max(axis=None) + table.min(axis=None)) / 2
    for row, scores in enumerate(table.to_numpy()):
        for column, score in enumerate(scores):
            if score == score:
                color = "white" if score > middle else "black"
                axes.text(column, row, f"{score:.3f}", ha="center", va="center", color=color)
    axes.set_xticks(range(table.shape[1]), [f"{lr:g}" for lr in table.columns])
    axes.set_yticks(range(table.shape[0]), table.index)
    axes.set(xlabel="learning rate", title=f"sample-F1\n{origin}")
    save(figure, path)


def curves(runs: Path, names: Iterable[str], path: Path, origin: str) -> None:
    """Sample-F1 and loss on the validation fold by epoch, a line a run, in the leaderboard's order."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    score, loss = figure.subplots(1, 2)
    for name in names:
        history = pd.read_csv(runs / name / "metrics.csv")
        score.plot(history["epoch"] + 1, history["val_f1"], marker=".", label=name)
        loss.plot(history["epoch"] + 1, history["val_loss"], marker=".")
    score.set(xlabel="epoch", title="validation sample-F1")
    loss.set(xlabel="epoch", title="validation loss", yscale="log")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.suptitle(origin)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .svg or .png, equal figures as equal bytes."""
    # Without these, it carries the date, the library's version and random ids.
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
