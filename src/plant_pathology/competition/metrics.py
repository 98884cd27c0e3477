"""The metrics that competitions score by, each with its direction and what it scores.

Each equals scikit-learn's function of that name, where there is one, and costs time linear in rows and in labels, so
that it can be repeated for thresholds and bootstrap samples.

The truth is (n,) int class numbers where each row has one label, (n, labels) bool where it may have several, and (n,)
float for numbers. What is scored, `decided`, is one of:
    labels: class numbers (n,) int, or sets (n, labels) bool
    ranking: (n, k) int, the likeliest class first
    probabilities: (n, labels) float
    number: (n,) float
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from plant_pathology.core.errors import UserError

LABELS, RANKING, PROBABILITIES, NUMBER = "labels", "ranking", "probabilities", "number"
TINY = 1e-15  # log loss takes probabilities no closer than this to 0 and 1
Score = Callable[[np.ndarray, np.ndarray], float]
Rows = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    Args:
        name: as `competition.metric` gives it.
        sign: 1 where higher is better, -1 where lower is.
        scores: what it scores: LABELS, RANKING, PROBABILITIES or NUMBER.
        score: returns the value for the truth and what was decided.
        rows: returns one value per row, (n,), whose mean is the score; None where the score is no mean over rows.
        k: length of the ranking; 0 for other metrics.
    """

    name: str
    sign: int
    scores: str
    score: Score
    rows: Rows | None = None
    k: int = 0

    def signed(self, true: np.ndarray, decided: np.ndarray) -> float:
        """Return the score times its sign, so that higher is better."""
        return self.sign * self.score(true, decided)

    def of_label(self, place: int) -> "Metric":
        """Return the metric of one label's probability: whether a row has the label and how probable it is, (n, 1)."""

        def alone(function: Callable) -> Callable:
            return lambda true, decided: function(
                true[:, [place]] if true.ndim == 2 else true[:, None] == place, decided[:, [place]]
            )

        return replace(self, score=alone(self.score), rows=alone(self.rows) if self.rows else None)


def metric_of(name: str) -> Metric:
    """Return the metric of a name; `map_at_5` and `top_5_error` take any number.

    Raises:
        UserError: there is none of that name.
    """
    if found := re.fullmatch(r"map_at_([1-9]\d*)|top_([1-9]\d*)_error", name):
        k = int(found[1] or found[2])
        if found[1]:
            return by_rows(name, 1, RANKING, average_precision, k)
        return by_rows(name, -1, RANKING, not_in_ranking, k)
    if name not in METRICS:
        raise UserError(f"competition.metric={name}: choose one of {', '.join(METRIC_NAMES)}")
    return METRICS[name]


def by_rows(name: str, sign: int, scores: str, rows: Rows, k: int = 0) -> Metric:
    """Return a metric that is the mean over rows."""
    return Metric(name, sign, scores, lambda true, decided: float(np.mean(rows(true, decided))), rows, k)


def row_f1(true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return the F1 of each row, (n,): 2 |decided and true| / (|decided| + |true|); 0 where both are empty."""
    if true.ndim == 1:
        return (true == decided).astype(float)
    true, decided = np.asarray(true, bool), np.asarray(decided, bool)
    sizes = decided.sum(axis=1) + true.sum(axis=1)
    return 2 * (decided & true).sum(axis=1) / np.maximum(sizes, 1)


def is_equal(true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return 1 for each row that is right in full, else 0, (n,) float."""
    equal = true == decided
    return (equal.all(axis=1) if equal.ndim == 2 else equal).astype(float)


def label_hits(true: np.ndarray, decided: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count by label how often it is true, decided, and both; three (labels,) arrays."""
    if true.ndim == 2:
        true, decided = np.asarray(true, bool), np.asarray(decided, bool)
        images, chosen, hits = (rows.sum(axis=0) for rows in (true, decided, true & decided))
        return images, chosen, hits
    size = 1 + max(true.max(initial=0), decided.max(initial=0))
    images, chosen, hits = (np.bincount(rows, minlength=size) for rows in (true, decided, true[true == decided]))
    return images, chosen, hits


def micro_f1(true: np.ndarray, decided: np.ndarray) -> float:
    """Return 2 hits / (true + decided), counted over all labels together."""
    images, chosen, hits = (counts.sum() for counts in label_hits(true, decided))
    return float(2 * hits / np.maximum(images + chosen, 1))


def macro_f1(true: np.ndarray, decided: np.ndarray) -> float:
    """Return the mean of the labels' F1; with one label per row, over the labels that are true or decided somewhere."""
    images, chosen, hits = label_hits(true, decided)
    if true.ndim == 1:
        images, chosen, hits = (counts[images + chosen > 0] for counts in (images, chosen, hits))
    return float(np.mean(2 * hits / np.maximum(images + chosen, 1)))


def roc_auc(true: np.ndarray, decided: np.ndarray) -> float:
    """Return the mean area under the ROC curve of the labels that some rows have and others have not.

    The area is the share of pairs of a row with and a row without the label that are in the right order, which follows
    from the ranks (Mann and Whitney 1947). It is not a number where no label has both kinds of rows.
    """
    # Imported here, because SciPy's statistics take half a second, and most commands need no metric.
    from scipy.stats import rankdata

    has = true if true.ndim == 2 else true[:, None] == np.arange(decided.shape[1])
    with_label = has.sum(axis=0)
    mixed = (with_label > 0) & (with_label < len(has))
    if not mixed.any():
        return float("nan")
    has, with_label = has[:, mixed], with_label[mixed]
    ranks = rankdata(decided[:, mixed], axis=0)
    above = (ranks * has).sum(axis=0) - with_label * (with_label + 1) / 2
    return float(np.mean(above / (with_label * (len(has) - with_label))))


def row_log_loss(true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return each row's cross-entropy, (n,): of the true class, or the mean over independent labels."""
    p = decided.astype(np.float64).clip(TINY, 1 - TINY)
    if true.ndim == 1:
        return -np.log(p[np.arange(len(p)), true])
    return -np.where(true, np.log(p), np.log1p(-p)).mean(axis=1)


def quadratic_weighted_kappa(true: np.ndarray, decided: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights: 1 minus the squared distance, relative to that expected by chance.

    Cohen, Weighted kappa (1968). It is 1 where all rows are right, and 0 where a constant is decided.
    """
    distance = ((true - decided).astype(np.float64) ** 2).mean()
    of_true, of_decided = (each.astype(np.float64) for each in (true, decided))
    by_chance = of_true.var() + of_decided.var() + (of_true.mean() - of_decided.mean()) ** 2
    return float(1 - distance / by_chance) if by_chance else 1.0


def rmse(true: np.ndarray, decided: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((true.astype(np.float64) - decided) ** 2)))


def absolute_error(true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return each row's distance from the truth, (n,)."""
    return np.abs(true.astype(np.float64) - decided)


def average_precision(true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return each row's average precision at k, (n,): with one true class, 1 / its place, or 0 where it is not among k.

    With several true labels, the mean of the precisions at the places of the hits, over min(k, true labels).
    """
    if true.ndim == 1:
        hits = decided == true[:, None]
        return (hits / np.arange(1, decided.shape[1] + 1)).sum(axis=1)
    hits = np.take_along_axis(true, decided, axis=1)
    precisions = hits.cumsum(axis=1) / np.arange(1, decided.shape[1] + 1)
    return (precisions * hits).sum(axis=1) / np.minimum(true.sum(axis=1), decided.shape[1]).clip(1)


def not_in_ranking(true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Return 1 for each row whose true class is not in the ranking, else 0, (n,) float."""
    return 1.0 - (decided == true[:, None]).any(axis=1)


METRICS = {
    metric.name: metric
    for metric in (
        by_rows("accuracy", 1, LABELS, is_equal),
        by_rows("sample_f1", 1, LABELS, row_f1),
        Metric("micro_f1", 1, LABELS, micro_f1),
        Metric("macro_f1", 1, LABELS, macro_f1),
        Metric("roc_auc", 1, PROBABILITIES, roc_auc),
        by_rows("log_loss", -1, PROBABILITIES, row_log_loss),
        Metric("quadratic_weighted_kappa", 1, LABELS, quadratic_weighted_kappa),
        Metric("rmse", -1, NUMBER, rmse),
        by_rows("mae", -1, NUMBER, absolute_error),
    )
}
METRIC_NAMES = [*METRICS, "map_at_<k>", "top_<k>_error"]


def label_counts(labels: list[str], true: np.ndarray, decided: np.ndarray) -> pd.DataFrame:
    """Count each label's hits and errors.

    Args:
        labels: names.
        true, decided: class numbers (n,), or sets (n, labels) bool.

    Returns:
        One row per label: label; numbers of images that have it (images), get it (predicted), both (hits), only have it
        (missed), only get it (added); precision, recall, f1.
    """
    counts = label_hits(true, decided)
    images, chosen, hits = (np.pad(count, (0, len(labels) - len(count))) for count in counts)
    return pd.DataFrame(
        {
            "label": labels,
            "images": images,
            "predicted": chosen,
            "hits": hits,
            "missed": images - hits,
            "added": chosen - hits,
            "precision": hits / np.maximum(chosen, 1),
            "recall": hits / np.maximum(images, 1),
            "f1": 2 * hits / np.maximum(images + chosen, 1),
        }
    )
