"""Draw the figures of the report: map of the sweep, learning curves, labels, label sets."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from plant_pathology.competition.metrics import Metric
from plant_pathology.core.plotting import COLORS, INK, MAP, MUTED, drawing
from plant_pathology.reporting.error_analysis import OTHERS
from plant_pathology.runs.status import Status
from plant_pathology.selection.axes import axis_title

ENDS = {"stopped": "s", "failed": "X", "interrupted": "D", "running": ">"}
NAMED = len(COLORS)  # runs with a color of their own among the curves
LINE = 30  # characters of a name beside an axis; longer ones are wrapped
LINES = 3  # of a name that is wrapped; the tables of the page have it whole


def draw_map(board: pd.DataFrame, keys: Sequence[str], path: Path, origin: str, metric: Metric) -> None:
    """Draw the score by the axes of the sweep.

    A heatmap for two keys with a grid of values; points along a key with more than four numbers; else one row per
    candidate.

    Args:
        board: run, score, low, high, and one column per key.
        keys: at most two dotted config keys.
        path: the .svg to write.
        origin: the competition's title, shown on the figure.
        metric: the competition's.
    """
    numbers = [key for key in keys if pd.api.types.is_numeric_dtype(board[key]) and board[key].nunique() > 4]
    cells = len(board[list(keys)].drop_duplicates())
    if len(keys) == 2 and 2 * cells >= board[keys[0]].nunique() * board[keys[1]].nunique():
        draw_heatmap(board, keys[0], keys[1], path, origin, metric)
    elif numbers:
        draw_scatter(board, numbers[-1], [key for key in keys if key != numbers[-1]], path, origin, metric)
    else:
        draw_rows(board, keys, path, origin, metric)


def draw_heatmap(board: pd.DataFrame, down: str, across: str, path: Path, origin: str, metric: Metric) -> None:
    """Draw the best score of each pair of values."""
    table = board.pivot_table(
        index=down, columns=across, values="score", aggfunc="max" if metric.sign > 0 else "min", sort=True
    )
    with drawing(path, 2.4 + 1.1 * table.shape[1], 1.3 + 0.5 * table.shape[0], origin) as figure:
        axes = figure.subplots()
        scores = table.to_numpy()
        draw_cells(axes, scores, [["–" if np.isnan(score) else f"{score:.3f}" for score in row] for row in scores])
        axes.set_xticks(range(table.shape[1]), map(value, table.columns))
        axes.set_yticks(range(table.shape[0]), map(value, table.index))
        axes.set(xlabel=axis_title(across), ylabel=axis_title(down), title=f"{metric.name}, out of fold")


def draw_scatter(board: pd.DataFrame, along: str, by: Sequence[str], path: Path, origin: str, metric: Metric) -> None:
    """Draw one point per candidate along a numeric key, colored by the value of the other key."""
    with drawing(path, 8, 3.6, origin) as figure:
        axes = figure.subplots()
        groups = list(board.groupby(by[0], sort=True)) if by else [("", board)]
        for number, (name, rows) in enumerate(groups):
            color = COLORS[number] if number < len(COLORS) else MUTED
            axes.plot(rows[along], rows["score"], "o", color=color, alpha=0.8, label=value(name))
        if by:
            figure.legend(loc="outside right upper", title=axis_title(by[0]), fontsize="small")
        if (board[along] > 0).all() and board[along].max() > 20 * board[along].min():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.25)
        axes.set(xlabel=axis_title(along), ylabel=metric.name, title=f"{metric.name}, out of fold")


def draw_rows(board: pd.DataFrame, keys: Sequence[str], path: Path, origin: str, metric: Metric) -> None:
    """Draw one row per candidate, with its interval."""
    names, lines = wrapped(", ".join(value(row[key]) for key in keys) or row["run"] for _, row in board.iterrows())
    with drawing(path, 8, 1.3 + (0.1 + 0.18 * lines) * len(board), origin) as figure:
        axes = figure.subplots()
        at = np.arange(len(board))
        axes.hlines(at, board["low"], board["high"], color=COLORS[0], alpha=0.5, linewidth=3)
        axes.plot(board["score"], at, "o", color=COLORS[0])
        for y, high, score in zip(at, board["high"], board["score"], strict=True):
            axes.annotate(f"{score:.3f}", (high, y), (5, 0), textcoords="offset points", va="center", fontsize="small")
        axes.set_yticks(at, names)
        axes.set_ylim(len(board) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.grid(axis="x", alpha=0.25)
        axes.set(
            xlabel=metric.name, ylabel=", ".join(map(axis_title, keys)), title=f"{metric.name} with its 95 % interval"
        )


def draw_curves(runs: Sequence[Status], path: Path, origin: str, metric: Metric) -> None:
    """Draw the score and losses by epoch, one line per run: the first ones colored and named, the others gray."""
    scores = f"val_{metric.name}"
    panels = {scores: f"validation {metric.name}", "val_loss": "validation loss", "train_loss": "training loss"}
    with drawing(path, 12, 4.6, origin) as figure:
        plots = dict(zip(panels, figure.subplots(1, len(panels)), strict=True))
        lines: list[tuple[Line2D, str]] = []
        states = []
        for number, run in reversed(list(enumerate(run for run in runs if run.rows))):
            epochs = pd.DataFrame(run.rows)
            named = number < NAMED
            color = COLORS[number] if named else MUTED
            for column, axes in plots.items():
                if column not in epochs:  # of a run without a validation fold
                    continue
                rows = epochs.dropna(subset=column)
                (line,) = axes.plot(rows["epoch"] + 1, rows[column], color=color, lw=1.6 if named else 0.8, alpha=0.9)
                end = ENDS.get(run.state, ".")
                axes.plot(rows["epoch"][-1:] + 1, rows[column][-1:], end, color=color, ms=5 if end == "." else 7)
            if named:
                lines.insert(0, (line, run.run))
            states.append(run.state)
        for (column, axes), name in zip(plots.items(), panels.values(), strict=True):
            axes.set(xlabel="epoch", title=name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.25)
            low, high = axes.dataLim.intervaly
            if column != scores and high > 5 * low > 0:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter("{x:g}")
        if unnamed := len(states) - len(lines):
            lines.append((Line2D([], [], color=MUTED, lw=0.8), f"{unnamed} more"))
        lines += [
            (Line2D([], [], color=INK, marker=marker, ls="", ms=6), state)
            for state, marker in ENDS.items()
            if state in states
        ]
        if lines:
            figure.legend(*zip(*lines, strict=True), loc="outside lower left", ncols=3, fontsize="small")


def draw_labels(counts: pd.DataFrame, path: Path, origin: str) -> None:
    """Draw each label's precision and recall, and its numbers of missed and wrongly added images.

    Args:
        counts: what `metrics.label_counts` returns.
    """
    at = np.arange(len(counts))
    names, lines = wrapped(f"{row.label} ({row.images})" for row in counts.itertuples())
    with drawing(path, 12, 1.5 + (0.18 + 0.18 * lines) * len(counts), origin) as figure:
        rates, wrong = figure.subplots(1, 2, sharey=True)
        ends = counts[["precision", "recall"]]
        rates.hlines(at, ends.min(axis=1), ends.max(axis=1), color=MUTED, linewidth=2)
        rates.plot(counts["precision"], at, "o", color=COLORS[0], label="precision")
        rates.plot(counts["recall"], at, "D", color=COLORS[1], label="recall")
        rates.set_yticks(at, names)
        rates.invert_yaxis()
        rates.set(xlim=(-0.02, 1.02), xlabel="share")
        rates.grid(axis="x", alpha=0.25)
        rates.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
        wrong.barh(at, -counts["missed"], color=COLORS[1])
        wrong.barh(at, counts["added"], color=COLORS[0])
        for side, column in ((-1, "missed"), (1, "added")):
            for y, count in zip(at, counts[column], strict=True):
                align = "left" if side > 0 else "right"
                wrong.annotate(
                    f"{count}", (side * count, y), (4 * side, 0), textcoords="offset points", va="center", ha=align
                )
        wrong.axvline(0, color=INK, linewidth=0.8)
        wrong.margins(x=0.15)
        wrong.xaxis.set_major_formatter(lambda x, _: f"{abs(x):g}")
        wrong.set(xlabel="images", title="missed to the left, wrongly added to the right")
        wrong.tick_params(axis="y", length=0)
        wrong.spines["left"].set_visible(False)


def draw_sets(table: pd.DataFrame, path: Path, origin: str) -> None:
    """Draw the confusion matrix of label sets, shaded by share of the row.

    Args:
        table: what `error_analysis.set_matrix` returns.
    """
    counts = table.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    down, across = counts.shape
    (true, high), (predicted, wide) = wrapped(table.index), wrapped(table.columns)
    width, height = 3.4 + max(0.62, 0.28 * wide) * across, 2.6 + (0.24 + 0.18 * high) * down
    with drawing(path, width, height, origin) as figure:
        axes = figure.subplots()
        draw_cells(axes, shares, [[f"{count}" if count else "" for count in row] for row in counts])
        for row, column in np.argwhere(table.index.to_numpy()[:, None] == table.columns.to_numpy()):
            if table.index[row] != OTHERS:
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", lw=1.2))
        axes.set_xticks(range(across), predicted, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(down), true)
        axes.set(xlabel="predicted", ylabel="true", title="images")


def draw_numbers(true: np.ndarray, predicted: np.ndarray, path: Path, origin: str) -> None:
    """Draw each image's predicted number against the true one."""
    with drawing(path, 6, 5, origin) as figure:
        axes = figure.subplots()
        axes.plot(true, predicted, ".", color=COLORS[0], alpha=0.4, rasterized=True)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color=INK, lw=0.8)
        axes.grid(alpha=0.25)
        axes.set(xlabel="true", ylabel="predicted", title="one point per image; on the line it is right")


def draw_residuals(true: np.ndarray, predicted: np.ndarray, path: Path, origin: str) -> None:
    """Draw how far predicted numbers are from the truth, for tenths of the images by their true number."""
    order = np.argsort(true, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    with drawing(path, 8, 3.6, origin) as figure:
        axes = figure.subplots()
        axes.boxplot([(predicted - true)[part] for part in parts], showfliers=False, medianprops={"color": COLORS[1]})
        axes.set_xticks(range(1, len(parts) + 1), [f"{true[part].min():.4g}–{true[part].max():.4g}" for part in parts])
        axes.tick_params(axis="x", rotation=30)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="true number", ylabel="predicted minus true", title="errors, by tenths of the images")


def draw_cells(axes: Axes, shades: np.ndarray, texts: list[list[str]]) -> None:
    """Draw a matrix with a readable text in each cell.

    Args:
        shades: (rows, columns); higher is darker, NaN is blank.
        texts: one per cell.
    """
    axes.imshow(shades, cmap=MAP, aspect="auto")
    low, high = np.nanmin(shades), np.nanmax(shades)
    for row, column in np.ndindex(shades.shape):
        shade = (shades[row, column] - low) / max(high - low, 1e-9)
        color = INK if np.isnan(shade) else "white" if shade > 0.6 else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=color)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def wrapped(names: Iterable[str]) -> tuple[list[str], int]:
    """Return names wrapped to at most LINES lines of LINE characters, and the lines of the longest one.

    Names that need more than half of a figure leave no room for its axes: Matplotlib then cuts the names off.
    """
    lines = [textwrap.wrap(name, LINE, max_lines=LINES, placeholder=" …") for name in names]
    return ["\n".join(each) for each in lines], max(map(len, lines), default=1)


def value(setting: object) -> str:
    """Format a setting: 0.0005, resnet18."""
    return f"{setting:g}" if isinstance(setting, int | float | np.number) else str(setting)
