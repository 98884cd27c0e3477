"""Draw the figures of the prepared data: labels, sizes, brightness and duplicates."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import TrainTable
from plant_pathology.core.plotting import NO_FORMULAS, save
from plant_pathology.inference.custom import image_opener
from plant_pathology.inference.decode import decode

GALLERY = 24  # groups of duplicates shown
SHOWN = 2  # images of each
COLUMNS = 3
THUMB = 256  # pixels
FREQUENT = 30  # labels shown where there are more


@rc_context(NO_FORMULAS)
def draw_figures(
    table: pd.DataFrame, repeated: list[dict], train: TrainTable, competition: Competition, folder: Path
) -> None:
    """Write labels.svg, images.svg and duplicates.png into `folder`.

    Args:
        table: one row per image: labels (tuple of texts), width, height, brightness.
        repeated: the groups of duplicates that `duplicates.find_duplicates` returns.
        train: the training table, for its labels and the folder of the originals.
    """
    if train.labels:
        draw_labels(table["labels"], train.labels, competition.title, folder / "labels.svg")
    else:
        draw_numbers(table["labels"], competition, folder / "labels.svg")
    draw_sizes_and_brightness(table, competition.title, folder / "images.svg")
    draw_duplicates(repeated, train.folder, competition, folder / "duplicates.png")


def draw_numbers(rows: pd.Series, competition: Competition, path: Path) -> None:
    """Draw how the numbers are spread."""
    numbers = [float(number) for (number,) in rows]
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.hist(numbers, bins=50, color="#4b7d3a", edgecolor="white")
    axes.set(xlabel=competition.target.column, ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{competition.title}: {len(rows)} images")
    save(figure, path)


def draw_labels(rows: pd.Series, labels: list[str], title: str, path: Path) -> None:
    """Draw how many images have each label, and how many have each pair of labels; with many, of the most frequent."""
    occurrences = Counter(label for row in rows for label in row)
    names = labels
    if len(labels) > FREQUENT:
        names = sorted(labels, key=lambda label: (-occurrences[label], label))[:FREQUENT]
    shown = {name: place for place, name in enumerate(names)}
    targets = np.zeros((len(rows), len(names)), int)
    for number, row in enumerate(rows):
        targets[number, [shown[label] for label in row if label in shown]] = 1
    together = targets.T @ targets
    counts = targets.sum(axis=0)
    alone = targets[rows.str.len().to_numpy() == 1].sum(axis=0)
    figure = Figure(figsize=(13, 1.6 + 0.6 * len(names)), layout="constrained")
    bars, heat = figure.subplots(1, 2)
    at = np.arange(len(names))
    bars.barh(at, counts, color="#a3c58a", label="with others")
    bars.barh(at, alone, color="#4b7d3a", label="alone")
    for y, count in zip(at, counts, strict=True):
        bars.text(count, y, f" {count} ({count / len(rows):.1%})", va="center")
    bars.set_yticks(at, names)
    bars.set(xlabel="images", xlim=(0, 1.25 * max(counts.max(), 1)))
    most = f"the {len(names)} most frequent of {len(labels)} labels" if len(labels) > len(names) else "each label"
    bars.set_title(f"images with {most}", loc="left")
    bars.invert_yaxis()
    bars.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    bars.spines[["top", "right"]].set_visible(False)
    pairs = np.ma.masked_where(np.eye(len(names), dtype=bool), together)
    heat.imshow(pairs, cmap="YlGn", vmin=0, vmax=max(pairs.max(), 1) if len(names) > 1 else 1)
    for (row, column), count in np.ma.ndenumerate(pairs):
        heat.text(column, row, count, ha="center", va="center", color="white" if count > pairs.max() / 2 else "black")
    heat.set_xticks(at, names, rotation=30, ha="right")
    heat.set_yticks(at, names)
    heat.set_title("images with both labels")
    figure.suptitle(f"{title}: {len(rows)} images")
    save(figure, path)


def draw_sizes_and_brightness(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the sizes and the brightness of the originals."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    sizes, light = figure.subplots(1, 2)
    common = table.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    sizes.scatter(*zip(*common.index, strict=True), s=30 + 600 * common / len(table), color="#4b7d3a", alpha=0.6)
    for (width, height), count in common[:5].items():
        sizes.annotate(f"{width} x {height}: {count}", (width, height), (10, 10), textcoords="offset points")
    sizes.set(xlabel="width, px", ylabel="height, px", title=f"sizes of the originals: {len(common)}")
    sizes.set_xlim(0, 1.35 * table["width"].max())
    sizes.set_ylim(0, 1.25 * table["height"].max())
    sizes.grid(alpha=0.3)
    light.hist(table["brightness"], bins=np.arange(0, 257, 8), color="#c9a227", edgecolor="white")
    light.set(xlabel="mean of all channels, 0 to 255", ylabel="images", title="brightness", xlim=(0, 255))
    light.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}: {len(table)} images")
    save(figure, path)


def draw_duplicates(repeated: list[dict], images: Path, competition: Competition, path: Path) -> None:
    """Draw groups of duplicates side by side, the most different ones first."""
    shown = sorted(repeated, key=lambda group: (-group["distance"], group["images"]))[:GALLERY]
    rows = max(1, -(-len(shown) // COLUMNS))
    figure = Figure(figsize=(5 * COLUMNS, 0.8 + 3 * rows), layout="constrained", dpi=80)
    figure.suptitle(
        f"{competition.title}: {len(shown)} of {len(repeated)} pictures that are there more than once;"
        " red: their labels contradict each other"
        if repeated
        else f"{competition.title}: no picture is there more than once"
    )
    frames = figure.subfigures(rows, COLUMNS, squeeze=False, wspace=0.04, hspace=0.03).flat
    for frame, group in zip(frames, shown, strict=False):
        color = "firebrick" if group["contradictory"] else "black"
        how = "identical" if group["identical"] else f"{group['distance']} bits apart"
        others = len(group["images"]) - SHOWN
        frame.suptitle(how + (f", and {others} more" if others else ""), fontsize=10, color=color)
        pair = zip(frame.subplots(1, SHOWN), group["images"], group["labels"], strict=False)
        for axes, name, names in pair:
            axes.imshow(decode(images / name, THUMB, image_opener(competition.code)))
            axes.set_title(f"{name}\n{competition.target.separator.join(names)}", fontsize=8, color=color)
            axes.set_axis_off()
    save(figure, path)
