"""Choose the images to show: likely label errors, worst mistakes, duplicates with contradictory labels."""

from typing import Any

import numpy as np

from plant_pathology.competition.spec import Competition
from plant_pathology.reporting.error_analysis import label_errors, losses
from plant_pathology.reporting.selection_tables import SelectionTables
from plant_pathology.reporting.thumbnails import thumbnails
from plant_pathology.store.version import Version

SHOWN = 12  # images, or groups of them, in each gallery
LIKELY = 3  # most probable labels, shown for each image besides the true and predicted ones


def galleries(
    selection: SelectionTables, competition: Competition, version: Version, manifest: dict[str, Any]
) -> dict[str, Any]:
    """Return the three galleries with their thumbnails, and the number of images that each is taken from.

    Args:
        version: the data version, for the pixels.
        manifest: its manifest.json.
    """
    suspects, suspect_labels = label_errors(selection.probabilities, selection.true, selection.predicted)
    loss = losses(selection.probabilities, selection.true, competition.multilabel)
    wrong = np.flatnonzero((selection.predicted != selection.true).any(axis=1))
    others = wrong[~np.isin(wrong, suspects[:SHOWN])]
    worst = others[np.argsort(-loss[others], kind="stable")][:SHOWN]
    contradictory = [group for group in manifest.get("duplicates", []) if group["contradictory"]]
    duplicates = contradictory[:SHOWN]
    names = selection.predictions["image"]
    shown = [*names.iloc[[*suspects[:SHOWN], *worst]], *(name for group in duplicates for name in group["images"])]
    pixels = thumbnails(version, manifest["encoding"], shown)
    return {
        "suspects": [
            card(selection, competition, row, pixels) | {"suspect_label": competition.labels[label]}
            for row, label in zip(suspects[:SHOWN].tolist(), suspect_labels[:SHOWN].tolist(), strict=True)
        ],
        "suspect_images": len(suspects),
        "worst": [card(selection, competition, row, pixels) | {"loss": loss[row]} for row in worst.tolist()],
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


def card(selection: SelectionTables, competition: Competition, row: int, pixels: dict[str, str]) -> dict[str, Any]:
    """Return one image with the probabilities of the labels that are true, predicted or among the most probable.

    Args:
        row: of the predictions.
        pixels: data URIs by image.
    """
    prediction = selection.predictions.iloc[row]
    true, predicted, probabilities = selection.true[row], selection.predicted[row], selection.probabilities[row]
    order = np.argsort(-probabilities, kind="stable")
    shown = [label for rank, label in enumerate(order) if rank < LIKELY or true[label] or predicted[label]]
    return {
        "image": prediction["image"],
        "fold": prediction["fold"],
        "source": pixels.get(prediction["image"]),
        "bars": [
            {
                "label": competition.labels[label],
                "probability": probabilities[label],
                "true": true[label],
                "predicted": predicted[label],
            }
            for label in shown
        ],
    }
