"""Choose the images to show: likely label errors, worst mistakes, duplicates with contradictory labels."""

from typing import Any

import numpy as np

from plant_pathology.reporting.error_analysis import class_errors, label_errors, losses
from plant_pathology.reporting.selection_tables import SelectionTables
from plant_pathology.reporting.thumbnails import thumbnails
from plant_pathology.store.version import Version

SHOWN = 12  # images, or groups of them, in each gallery
LIKELY = 3  # most probable labels, shown for each image besides the true and predicted ones


def galleries(selection: SelectionTables, version: Version, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the three galleries with their thumbnails, and the number of images that each is taken from.

    Args:
        version: the data version, for the pixels.
        manifest: its manifest.json.
    """
    suspects, suspect_labels = likely_label_errors(selection)
    loss = losses(selection.outputs, selection.true)
    differ = selection.predicted != selection.true
    wrong = np.flatnonzero(differ.any(axis=1) if differ.ndim == 2 else differ)
    others = wrong[~np.isin(wrong, suspects[:SHOWN])]
    worst = others[np.argsort(-loss[others], kind="stable")][:SHOWN]
    contradictory = [group for group in manifest.get("duplicates", []) if group["contradictory"]]
    duplicates = contradictory[:SHOWN]
    names = selection.predictions["image"]
    shown = [*names.iloc[[*suspects[:SHOWN], *worst]], *(name for group in duplicates for name in group["images"])]
    pixels = thumbnails(version, shown)
    return {
        "suspects": [
            card(selection, row, pixels) | {"suspect_label": selection.labels[label]}
            for row, label in zip(suspects[:SHOWN].tolist(), suspect_labels[:SHOWN].tolist(), strict=True)
        ],
        "suspect_images": len(suspects),
        "worst": [card(selection, row, pixels) | {"loss": loss[row]} for row in worst.tolist()],
        "wrong_images": len(wrong),
        "duplicates": [
            [
                {"image": image, "labels": labels, "source": pixels.get(image)}
                for image, labels in zip(group["images"], group["labels"], strict=True)
            ]
            for group in duplicates
        ],
        "duplicate_groups": len(contradictory),
    }


def likely_label_errors(selection: SelectionTables) -> tuple[np.ndarray, np.ndarray]:
    """Return rows whose label is likely wrong, and for each the number of the suspect label; none for numbers."""
    if selection.true.dtype.kind == "f":
        return np.zeros(0, int), np.zeros(0, int)
    if selection.true.ndim == 1:
        rows = class_errors(selection.outputs, selection.true, selection.predicted)
        return rows, selection.true[rows]
    return label_errors(selection.outputs, selection.true, selection.predicted)


def card(selection: SelectionTables, row: int, pixels: dict[str, str]) -> dict[str, Any]:
    """Return one image with the probabilities of the labels that are true, predicted or among the most probable.

    Args:
        row: of the predictions.
        pixels: data URIs by image.
    """
    prediction = selection.predictions.iloc[row]
    return {
        "image": prediction["image"],
        "fold": prediction["fold"],
        "source": pixels.get(prediction["image"]),
        "true": prediction["true"],
        "predicted": prediction["predicted"],
        "bars": bars(selection, row) if selection.labels else [],
    }


def bars(selection: SelectionTables, row: int) -> list[dict[str, Any]]:
    """Return one image's labels with their probabilities, the most probable first."""
    probabilities = selection.outputs[[row]]
    probabilities = (probabilities if isinstance(probabilities, np.ndarray) else probabilities.toarray())[0]
    has, gets = (
        rows[row] if rows.ndim == 2 else np.arange(len(probabilities)) == rows[row]
        for rows in (selection.true, selection.predicted)
    )
    order = np.argsort(-probabilities, kind="stable")
    return [
        {
            "label": selection.labels[label],
            "probability": probabilities[label],
            "true": has[label],
            "predicted": gets[label],
        }
        for rank, label in enumerate(order)
        if rank < LIKELY or has[label] or gets[label]
    ]
