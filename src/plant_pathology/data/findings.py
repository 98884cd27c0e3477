"""Find what is unusual in the prepared images, for manifest.json and for the last lines of `prepare`."""

from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import TrainTable
from plant_pathology.core.errors import UserError

ONE_COLOR = 2  # steps of 255 that the pixels of a picture of one color may differ, as after JPEG compression
DARK = 64  # values that a picture with more than 8 bits does not reach if its numbers end at 14 bits or fewer
LARGE = 0.5  # of a fold: a group of this size is worth a warning
MISSING = {"nan", "none", "null", "na", "n/a", "<na>", "nat"}  # what programs write for an empty cell
UNEVEN = 0.25  # of the mean size of folds: the difference between the largest and the smallest that is worth one


def check_depth(table: pd.DataFrame, competition: Competition) -> None:
    """Refuse pictures whose files have 16 bits and whose numbers have fewer: they would be nearly black.

    One dark picture proves nothing, so all pictures with more than 8 bits are judged together.

    Args:
        table: one row per image: deep, highest.

    Raises:
        UserError: most of them are dark.
    """
    highest = table.loc[table["deep"] == 1, "highest"]
    if len(highest) and (highest < DARK).mean() >= 0.5:
        raise UserError(
            f"{len(highest)} images have 16 bits per channel, and most use 14 of them or fewer: they would be nearly"
            f" black. Write open_image in competitions/{competition.name}.py, which divides by their largest number"
            " (competitions/README.md has it)"
        )


def find(
    table: pd.DataFrame, kept: pd.DataFrame, repeated: list[dict], targets: np.ndarray, labels: list[str], folds: int
) -> dict[str, Any]:
    """Return the part of manifest.json about what is unusual.

    Args:
        table: all good rows: image, between, deep, highest, spread.
        kept: those that `prepare.duplicates` keeps: group, fold.
        repeated: the groups of duplicates.
        targets: of `kept`, as `targets_of` returns them.
        labels: names of the labels.
        folds: their number.
    """
    identical = sum(group["identical"] for group in repeated)
    names = table["image"]
    return {
        "images_in_fold": np.bincount(kept["fold"], minlength=folds).tolist(),
        "largest_group": int(kept["group"].value_counts().max()),
        "identical_groups": identical,
        "near_groups": len(repeated) - identical,
        "largest_duplicate_group": max((len(group["images"]) for group in repeated), default=1),
        "between_groups": int(table["between"].sum()),
        "dropped": len(table) - len(kept),
        "one_color": names[table["spread"] <= ONE_COLOR].tolist(),
        "dark": names[(table["deep"] == 1) & (table["highest"] < DARK)].tolist(),
        "rare_labels": rare_labels(kept["group"], targets, labels, folds),
    }


def rare_labels(group: pd.Series, targets: np.ndarray, labels: list[str], folds: int) -> list[str]:
    """Return the labels that have images, but in fewer groups than there are folds."""
    if not labels:
        return []
    image, label = np.nonzero(targets) if targets.ndim == 2 else (np.arange(len(targets)), targets)
    pairs = pd.DataFrame({"label": label, "group": group.to_numpy()[image]}).drop_duplicates()
    counts = np.bincount(pairs["label"], minlength=len(labels))
    return [labels[place] for place in np.flatnonzero((counts > 0) & (counts < folds))]


def messages(counts: dict[str, Any], competition: Competition, train: TrainTable, quarantine: str) -> list[str]:
    """Return what `prepare` prints about the data, a line each.

    Args:
        counts: manifest.json.
        quarantine: name of the file with the bad rows.
    """
    lines = duplicate_messages(counts, competition) + fold_messages(counts, competition)
    if counts["one_color"]:
        lines.append(
            f"{len(counts['one_color'])} images are of one color, so nothing can be seen: {few(counts['one_color'])}"
        )
    if counts["dark"]:
        lines.append(f"{len(counts['dark'])} images of 16 bits are nearly black: {few(counts['dark'])}")
    if relabeled := counts["relabeled"]:
        lines.append(f"{relabeled['accepted']} images relabeled, of {relabeled['rows']} in {relabeled['file']}")
    if extra := counts["extra"]:
        left = extra["rows"] - extra["used"]
        lines.append(
            f"{extra['used']} extra images of {extra['file']} train and never validate"
            + (f"; {left} left out, because they show a picture of the table, or one of its groups" if left else "")
        )
    if teacher := counts["teacher"]:
        lines.append(f"{teacher['images']} images have soft labels of {teacher['file']}, for model.distill")
    if counts["quarantined"]:
        lines.append(f"{counts['quarantined']} bad rows of {train.source.name} skipped; {quarantine} lists the reasons")
    if unlisted := counts["unlisted"]:
        where = f"{train.folder.name}/ ignored, not in {train.source.name}"
        lines.append(f"{len(unlisted)} files of {where}: {few(unlisted)}")
    return lines


def duplicate_messages(counts: dict[str, Any], competition: Competition) -> list[str]:
    """Return what there is to say about duplicates."""
    repeated, largest = counts["duplicates"], counts["largest_duplicate_group"]
    contradictory = sum(group["contradictory"] for group in repeated)
    lines = [
        f"{len(repeated)} pictures more than once: {counts['identical_groups']} identical, {counts['near_groups']}"
        f" nearly; {contradictory} of them with contradictory labels; at most {largest} images of one picture:"
        f" prepare.duplicates={counts['duplicates_policy']}; manifest.json names them"
    ]
    if dropped := counts["dropped"]:
        gone = {"drop": "left out as duplicates", "merge": "merged into others"}[counts["duplicates_policy"]]
        lines.append(f"{dropped} of {dropped + counts['images']} images {gone}")
    if counts["between_groups"]:
        lines.append(
            f"warning: {counts['between_groups']} images are nearly those of two groups, as in a series where each is"
            " like the next: near images may be in different folds; name what they share, such as the video or the"
            f" place, in competition.groups in {competition.file}, or lower prepare.near_bits={counts['near_bits']}"
        )
    if largest > LARGE * counts["images"] / len(counts["images_in_fold"]) and counts["near_groups"]:
        lines.append(
            f"warning: the largest group of duplicates has {largest} images; if reports/data/duplicates.png shows"
            f" different pictures, lower prepare.near_bits={counts['near_bits']}"
        )
    return lines


def fold_messages(counts: dict[str, Any], competition: Competition) -> list[str]:
    """Return what there is to say about folds and labels."""
    sizes, lines = counts["images_in_fold"], []
    if max(sizes) - min(sizes) > max(2, UNEVEN * counts["images"] / len(sizes)):
        lines.append(f"warning: folds have {', '.join(map(str, sizes))} images, {why_uneven(counts, competition)}")
    if absent := [label for label, count in counts.get("images_with_label", {}).items() if not count]:
        lines.append(f"{len(absent)} labels have no training image, and are hardly predicted: {few(absent)}")
    if odd := [label for label in counts.get("images_with_label", {}) if label.casefold() in MISSING]:
        lines.append(
            f"warning: {few(odd)}: taken as a label, though tables say so where nothing is known; if it is none, remove"
            " these rows"
        )
    if rare := counts["rare_labels"]:
        lines.append(
            f"{len(rare)} labels have fewer different images than there are folds, so some folds lack them: {few(rare)}"
        )
    return lines


def why_uneven(counts: dict[str, Any], competition: Competition) -> str:
    """Return what makes the folds differ in size, and what can be done."""
    sizes, largest = counts["images_in_fold"], counts["largest_group"]
    if 2 * largest < max(sizes) - min(sizes):
        return "because each label is spread evenly over them first: choose fewer prepare.folds if that matters"
    cause = f"prepare.near_bits={counts['near_bits']}" + (" and competition.groups" if competition.groups else "")
    return (
        f"because the largest group, which stays in one fold, has {largest}: {cause} decide what is a group; or choose"
        " fewer prepare.folds"
    )


def few(names: list[str]) -> str:
    """Return the first three names as text."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
