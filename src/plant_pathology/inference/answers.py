"""Write what was decided as cells of a submission."""

from dataclasses import dataclass

import numpy as np

Cells = dict[str, list[str]]  # by column of the form, one text per row


@dataclass(frozen=True)
class Answers:
    """What a cell holds; `competition.submit` in the config explains each.

    Args:
        as_: label, labels, ranking, probability, columns or number.
        labels: names of the classes, in the order of the network's outputs; none for numbers.
        separator: between two labels in a cell.
        positive: the label whose probability is asked for; None: the last one.
    """

    as_: str
    labels: list[str]
    separator: str
    positive: str | None

    def problem(self, columns: list[str]) -> str | None:
        """Return why these columns of a form, without that of the ids, cannot be filled in; None if they can."""
        if self.as_ == "columns":
            wrong = [f"no column {label}" for label in self.labels if label not in columns]
            wrong += [f"the column {column}, which is no label" for column in columns if column not in self.labels]
        else:
            wrong = [] if len(columns) == 1 else [f"the columns {', '.join(columns)}, where one takes the answer"]
        return f"it has {wrong[0]}: the form is another than the one that the bundle was made for" if wrong else None

    def cells(self, decided: np.ndarray, columns: list[str]) -> Cells:
        """Return the columns of the submission.

        Args:
            decided: what `Decision.decide` returns, n rows.
            columns: of the form, without that of the ids.
        """
        if self.as_ == "columns":
            if decided.ndim == 1:  # class numbers
                decided = decided[:, None] == np.arange(len(self.labels))
            places = {label: place for place, label in enumerate(self.labels)}
            return {column: texts(decided[:, places[column]]) for column in columns}
        return {columns[0]: self._single(decided)}

    def _single(self, decided: np.ndarray) -> list[str]:
        """Return the only column."""
        names = np.array(self.labels, object)
        if self.as_ == "probability":
            return texts(decided[:, self.labels.index(self.positive) if self.positive else -1])
        if self.as_ == "number":
            return texts(decided)
        if decided.ndim == 1:
            return names[decided].tolist()
        return [self.separator.join(names[row]) for row in decided]


def texts(values: np.ndarray) -> list[str]:
    """Format probabilities and numbers with seven digits, and truth values as 0 and 1."""
    return [f"{value:.7g}" for value in values.astype(float).tolist()]
