"""Where predictions and labels disagree: by label, by set of labels, and image by image."""

import numpy as np
import pandas as pd

from plant_pathology.inference.decision import TINY

OTHERS = "other sets"


def set_names(rows: np.ndarray, labels: list[str]) -> np.ndarray:
    """Each row's labels in words; `rows`: (n, labels) bool."""
    kinds, kind = np.unique(rows, axis=0, return_inverse=True)
    names = [" + ".join(np.array(labels)[each]) or "no label" for each in kinds]
    return np.array(names, object)[kind.ravel()]


def set_matrix(true: np.ndarray, predicted: np.ndarray, shown: int) -> pd.DataFrame:
    """How often each label set is taken for which: true sets down, predicted sets across, the most frequent first.
    Sets that are never true have no row, those never predicted no column.

    Args:
        true, predicted: (n,) names of sets.
        shown: sets with a row and column of their own; the others share one, OTHERS.
    """
    counts = pd.concat([pd.Series(true), pd.Series(predicted)]).value_counts()
    # Names decide between equals, so that equal predictions draw equal pictures.
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    names = order[:shown] + ([OTHERS] if len(order) > shown else [])
    sides = [pd.Series(side).where(pd.Series(side).isin(order[:shown]), OTHERS) for side in (true, predicted)]
    table = pd.crosstab(*sides, rownames=["true"], colnames=["predicted"])
    return table.loc[[name for name in names if name in table.index], [name for name in names if name in table]]


def frequent_mistakes(true: np.ndarray, predicted: np.ndarray, count: int) -> pd.DataFrame:
    """The pairs of a true and another predicted set that come most often: true, predicted, images."""
    pairs = pd.DataFrame({"true": true, "predicted": predicted})
    pairs = pairs[pairs["true"] != pairs["predicted"]].groupby(["true", "predicted"]).size().reset_index(name="images")
    return pairs.sort_values(["images", "true", "predicted"], ascending=[False, True, True]).head(count)


def losses(probabilities: np.ndarray, true: np.ndarray, multilabel: bool) -> np.ndarray:
    """(n,) cross-entropy of each row: the mean over its labels, or minus the logarithm of the true one's probability.

    Args:
        probabilities, true: (n, labels).
    """
    p = probabilities.astype(float).clip(TINY, 1 - TINY)
    if not multilabel:
        return -np.log((p * true).sum(axis=1).clip(TINY))
    return -np.where(true, np.log(p), np.log1p(-p)).mean(axis=1)


def label_errors(probabilities: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose labels out-of-fold predictions contradict with confidence, the surest first.

    Confident learning (Northcutt, Jiang and Chuang 2021), one label against the rest as Thyagarajan et al. (2022) do
    for several labels a row: a label is in doubt where the opposite of what the row says is predicted, is likelier than
    not, and at least as probable as it is on average in rows that say it. Rows are ranked by self-confidence, the
    probability that the model leaves to what the row says.

    Args:
        probabilities: (n, labels), by models that were not trained on the row.
        true, predicted: (n, labels) bool.

    Returns:
        Positions of the rows, and for each the label in doubt.
    """
    opposite = np.where(true, 1 - probabilities, probabilities)
    said = 1 - opposite
    doubtful = np.zeros(true.shape, bool)
    for stands in (False, True):
        others = true != stands  # rows that say the opposite
        usual = (said * others).sum(axis=0) / np.maximum(others.sum(axis=0), 1)
        # A label that no row has, or all have, has nothing to compare with.
        doubtful |= (true == stands) & (opposite >= np.maximum(usual, 0.5)) & (others.sum(axis=0) > 0)
    doubtful &= predicted != true
    confidence = np.where(doubtful, said, np.inf)
    rows = np.flatnonzero(doubtful.any(axis=1))
    rows = rows[np.argsort(confidence[rows].min(axis=1), kind="stable")]
    return rows, confidence[rows].argmin(axis=1)
