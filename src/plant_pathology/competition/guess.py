"""Guess what a competition predicts, what it asks for and how it scores, from its form and its training table.

What the cells leave open is decided by names of columns and by what is usual on Kaggle, and noted as a guess with its
reason and its alternative: a wrong guess that is marked costs a reader less than an empty line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from plant_pathology.competition.labels import found_labels
from plant_pathology.competition.metrics import LABELS, METRICS
from plant_pathology.competition.spec import ANSWERS

SEPARATORS = (" ", ",", ";", "|")
# Words in names of columns.
LABELLED = re.compile(r"(?i:label|class|categor|species|breed|kind|type|target|(^|_)ids?$)|[a-z]Id$")
ORDERED = re.compile(r"grade|level|stage|severity|diagnosis|degree|score|rating|rank|quality|density", re.I)
GROUPS = re.compile(r"patient|subject|person|study|location|place|group|site|hospital|camera", re.I)
MOST_GRADES = 10  # labels in an order are few
MOST_LABELS = 20  # more different whole numbers are a quantity, unless the column is named like labels
FEWEST_GROUPS = 10  # fewer different values are a property of the image, not whose it is
LIKE = 10  # points of a column that is likely the target
HIDDEN = 10  # a form with at most so many rows is an example: Kaggle runs the kernel on other images


@dataclass
class Guess:
    """The sections target, metric, submit and groups of a competition's file; `notes` has the guesses by section."""

    target: dict[str, Any]
    submit: dict[str, Any]
    metric: str = ""
    groups: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, section: str, text: str) -> None:
        self.notes.setdefault(section, []).append(text)


def guess(answers: pd.DataFrame, table: pd.DataFrame, column: str | None, names: Mapping[str, set[str]]) -> Guess:
    """Guess the target, the answer and the metric.

    Args:
        answers: the columns of the form that are to be filled in, as Kaggle filled them in for the example.
        table: the training table.
        column: of the table with the target, from `target_column`; None where each label may have one.
        names: by file, the cells of each column of other tables, one of which may name the labels.
    """
    if len(answers.columns) > 1:
        found = of_columns(answers, table)
    elif column is None:
        columns = one_hot_columns(table)
        found = Guess({"kind": "one", "columns": columns}, {"as": "label"})
        found.note(
            "target",
            f"guessed: the labels are the columns {columns[0]}, …, because the table has no column like the form's"
            f" {answers.columns[0]}, but these hold 0 and 1; else set column",
        )
    else:
        found = of_one_column(answers.iloc[:, 0], table[column], column, names)
    guess_metric(found, bool(answers.map(is_fraction).any(axis=None)))
    guess_way(found, len(answers))
    return found


def of_columns(answers: pd.DataFrame, table: pd.DataFrame) -> Guess:
    """Guess for a form with several columns: one per label."""
    target = target_of_columns(answers, table)
    if target is None:
        near = max(table, key=lambda each: len(set(table[each]) & set(answers)), default=None)
        found = Guess({"kind": "one", "column": near}, {"as": "columns"})
        found.note("target", "not found: the training table holds the form's columns neither as columns nor as labels")
        return found
    found = Guess(target, {"as": "columns"})
    if target == {"kind": "one"}:
        found.note("target", "guessed: kind one, because every row has exactly one 1; else several")
    return found


def target_of_columns(answers: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any] | None:
    """Return `target:` where the table has the form's columns as columns of 0 and 1, or as labels; else None."""
    names = [str(name) for name in answers]
    if set(names) <= set(table):
        numbers = table[names].apply(pd.to_numeric, errors="coerce")
        exclusive = (numbers.sum(axis=1) == 1).all()
        return {"kind": "one" if exclusive else "several"} if numbers.isin((0, 1)).all(axis=None) else None
    values = {str(column): set(table[column]) - {""} for column in table}
    fitting = [column for column in values if len(values[column]) > 1 and values[column] <= set(names)]
    if fitting:
        return {"kind": "one", "column": max(fitting, key=lambda each: len(values[each]))}
    for column in values:
        for separator in SEPARATORS:
            tokens = {token for value in values[column] for token in value.split(separator)}
            if len(tokens) > 1 and tokens <= set(names):
                return {"kind": "several", "column": column} | ({"separator": separator} if separator != " " else {})
    return None


def target_column(answers: pd.DataFrame, table: pd.DataFrame, ids: Iterable[str], sure: bool) -> str | None:
    """Return the column of the training table that the form's one answer asks for; None where none may be it.

    Args:
        ids: columns that say which image it is, not what is true of it.
        sure: only one that is named like the answer or like labels, holds the form's cells, or is the only one.
    """
    answer, examples = str(answers.columns[0]), set(answers.iloc[:, 0]) - {""}
    asked = plain(answer)

    def likeness(column: str) -> int:
        name, values = plain(column), set(table[column]) - {""}
        shown = bool(examples) and examples <= values
        telling = shown and (len(examples) > 2 or not all(map(is_number, examples)))
        return (
            100 * (column == answer)
            + 50 * (name == asked)
            + 20 * (len(asked) > 2 and (asked in name or name in asked))
            + 15 * telling
            + LIKE * (bool(LABELLED.search(column)) and len(values) < len(table))
            + 5 * (name.startswith(("category", "label", "target", "class")))
            + 3 * shown
            - (len(column) > len(answer) and column.endswith(("_name", "_of_image")))
        )

    possible = [str(each) for each in table if each and each not in set(ids) and table[each].nunique() > 1]
    best = max(possible, key=likeness, default=None)
    return best if best is not None and (likeness(best) >= LIKE or possible == [best] or not sure) else None


def one_hot_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that hold 0 and 1, of which each row has one 1; none where there are no such columns."""
    names = [str(name) for name in table if name and set(table[name]) <= {"0", "1"}]
    return names if len(names) > 1 and (table[names].astype(int).sum(axis=1) == 1).all() else []


def of_one_column(examples: pd.Series, cells: pd.Series, column: str, names: Mapping[str, set[str]]) -> Guess:
    """Guess for a form with one column.

    Args:
        examples: the form's cells.
        cells: the training table's.
    """
    shown, values = list(dict.fromkeys(examples[examples != ""])), set(cells) - {""}
    found = Guess({"kind": "one", "column": column}, {"as": "label"})
    if plain(column) != plain(str(examples.name)):
        found.note(
            "target",
            f"guessed: column {column}, because the training table has no column {examples.name}; else another",
        )
    if separator := separator_of(values):
        found.target |= {"kind": "several"} | ({"separator": separator} if separator != " " else {})
        found.submit = {"as": "labels"}
        found.note(
            "target", f"guessed: kind several, because parts of its cells, split at {separator!r}, recur; else one"
        )
        submitted = next((each for each in SEPARATORS if shown and all(each in cell for cell in shown)), separator)
        if submitted != " ":
            found.submit["separator"] = submitted
        return found
    if ranking := ranking_of(shown, values):
        length, separator = ranking
        found.submit = {"as": "ranking"} | ({"separator": separator} if separator != " " else {})
        found.metric = f"map_at_{length}"
        return found
    numeric = bool(shown) and all(map(is_number, shown))
    fractions = any(map(is_fraction, shown))
    if len(values) == 2 and numeric:
        found.submit = {"as": "probability"}
        last = found_labels(values)[-1]
        because = "the form holds fractions" if fractions else "that is usual for two classes"
        found.note("submit", f"guessed: the probability, because {because}" + ("" if fractions else "; else label"))
        if not all(map(is_number, values)):
            found.submit["positive"] = last
            found.note("submit", f"guessed: positive {last}, the last label; else {found_labels(values)[0]}")
    elif len(values) == 2 and not shown:
        found.note("submit", "guessed: a label, because the form is empty; else probability")
    elif all(map(is_number, values)):
        of_numbers(found, values, fractions, column, names)
    elif fractions:
        found.note("submit", "not found: the form holds fractions, but the labels are more than two texts")
    return found


def of_numbers(found: Guess, values: set[str], fractions: bool, column: str, names: Mapping[str, set[str]]) -> None:
    """Tell numbers from labels that are numbers, and labels with an order from others."""
    whole = all(float(value) % 1 == 0 for value in values)
    labelled = bool(LABELLED.search(column))
    naming = next((file for file, cells in names.items() if values <= cells and len(cells) <= 2 * len(values)), None)
    ordered = {int(float(value)) for value in values} in (set(range(len(values))), set(range(1, len(values) + 1)))
    if not whole or fractions or (len(values) > MOST_LABELS and not labelled and not naming):
        found.target["kind"], found.submit["as"] = "number", "number"
        if whole and not fractions:
            found.note(
                "target", f"guessed: kind number, because {len(values)} whole numbers are more than labels; else one"
            )
        elif whole:
            found.note("target", "guessed: kind number, because the form holds fractions; else ordinal")
    elif whole and ordered and len(values) <= MOST_GRADES and ORDERED.search(column) and not naming:
        found.target["kind"] = "ordinal"
        found.note(
            "target",
            f"guessed: kind ordinal, because {column} sounds like one, and no file names the numbers; else one",
        )
    elif whole and ordered and len(values) <= MOST_GRADES:
        because = f"{naming} names the numbers" if naming else "their column is not named like a degree"
        found.note("target", f"guessed: kind one, because {because}; else ordinal, if the numbers have an order")
    elif not labelled:
        found.note("target", f"guessed: kind one, because {len(values)} numbers are few; else ordinal or number")


def separator_of(values: set[str]) -> str | None:
    """Return the text between labels in a cell; None where a cell is one label.

    Parts of label lists recur in other lists; parts of a name such as `Common wheat` mostly do not.
    """
    for separator in SEPARATORS:
        lists = [value.split(separator) for value in values]
        counts = pd.Series([token for each in lists for token in each]).value_counts()
        parts = {token for each in lists if len(each) > 1 for token in each}
        unlike = all(len(set(each)) == len(each) and "" not in each for each in lists)
        if (
            parts
            and unlike
            and len(counts) < len(values)
            and sum(counts[part] > 1 for part in parts) >= 0.8 * len(parts)
        ):
            return separator
    return None


def ranking_of(shown: Sequence[str], values: set[str]) -> tuple[int, str] | None:
    """Return how many labels each cell of the form ranks, and the text between them; None where it has one label."""
    for separator in SEPARATORS:
        lengths = {len(cell.split(separator)) for cell in shown}
        known = values.intersection(*[shown[0].split(separator)] if shown else [])
        if len(lengths) == 1 and lengths != {1} and not values & set(shown) and (known or max(lengths) > 2):
            return lengths.pop(), separator
    return None


def guess_metric(found: Guess, fractions: bool) -> None:
    """Guess the metric from what it must score.

    Args:
        fractions: the form holds some, so that columns are not of 0 and 1.
    """
    kind, answer = found.target["kind"], found.submit["as"]
    usual = {
        "label": "quadratic_weighted_kappa" if kind == "ordinal" else "accuracy",
        "labels": "sample_f1",
        "probability": "roc_auc",
        "columns": "log_loss" if kind == "one" else "roc_auc",
        "number": "rmse",
    }
    found.metric = found.metric or usual[answer]
    others = [
        name
        for name, metric in METRICS.items()
        if answer in ANSWERS[metric.scores]
        and (kind == "ordinal" or name != "quadratic_weighted_kappa")
        and not (fractions and metric.scores == LABELS)
    ]
    if answer == "ranking":
        others = [f"top_{found.metric.rpartition('_')[2]}_error"]
    rest = [name for name in others if name != found.metric]
    found.note(
        "metric",
        f"guessed: {found.metric}, because the answer is {answer}; else {', '.join(rest)}, or one of your own: the"
        " competition's page on Kaggle names it",
    )


def guess_way(found: Guess, rows: int) -> None:
    """Guess whether Kaggle takes a file or a kernel."""
    if rows > HIDDEN:
        found.submit["by"] = "file"
        found.note("submit", "guessed: by file, because the test images are all here; else kernel (a Code Competition)")
    else:
        found.note("submit", f"guessed: by kernel, because a form with so few rows ({rows}) is an example; else file")


def groups_of(table: pd.DataFrame, ids: Iterable[str]) -> list[str]:
    """Return the columns that seem to say whose image it is: named so, with values that recur.

    Args:
        ids: columns that are no groups: the images' and the target.
    """
    return [
        str(name)
        for name in table
        if GROUPS.search(str(name))
        and not str(name).startswith("category_")
        and name not in set(ids)
        and FEWEST_GROUPS <= table[name].nunique() <= 0.9 * len(table)
    ]


def is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


def is_fraction(text: str) -> bool:
    return is_number(text) and float(text) % 1 != 0


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
