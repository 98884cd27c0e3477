"""Find the labels of a competition: those that its file lists, or those of its training table; and the positive one."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from omegaconf import OmegaConf

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError

DIGITS = 300  # of a label that counts as a number: more make no finite float
DECIMAL = re.compile(rf"[-+]?(\d{{1,{DIGITS}}}\.?\d*|\.\d+)")


def found_labels(cells: Iterable[str]) -> list[str]:
    """Return the different labels, sorted: whole numbers by their value, others by their text."""
    labels = set(cells)
    whole = all(map(is_whole, labels))
    return sorted(labels, key=lambda label: (int(label), label) if whole else (0, label))


def is_whole(label: str) -> bool:
    return bool(re.fullmatch(f"-?[0-9]{{1,{DIGITS}}}", label))


def alike_labels(labels: Iterable[str]) -> tuple[str, str] | None:
    """Return two labels that look like one."""
    seen: dict[str | Decimal, str] = {}
    for label in labels:
        key = without_spelling(label)
        if key in seen:
            return seen[key], label
        seen[key] = label
    return None


def without_spelling(label: str) -> str | Decimal:
    """Return what all texts share that look like this one.

    They differ only in case, spaces, signs that have no width, Unicode form (also as １ and 1 do), or as 3 and 3.0 do.
    """
    wide = "".join(sign for sign in unicodedata.normalize("NFKC", label) if unicodedata.category(sign) != "Cf")
    text = " ".join(wide.casefold().split())
    return Decimal(text) if DECIMAL.fullmatch(text) else text  # a float would take ids of 20 digits for one


def listed_labels(listed: Sequence[Any], cells: Iterable[str], key: str) -> list[str]:
    """Return the labels of a config file as the table spells them.

    YAML reads `no`, `0` and `1e5` as a truth value and numbers. So a listed value stands for the text of the table that
    YAML would read as that value.

    Args:
        listed: values, as YAML read them.
        cells: labels of the table.
        key: of the config, for messages.

    Raises:
        UserError: a value stands for no text or for several, or two values stand for one.
    """
    texts: dict[Any, list[str]] = {}
    for text in dict.fromkeys(cells) if not all(isinstance(value, str) for value in listed) else ():
        texts.setdefault(as_yaml(text), []).append(text)
    labels = [label_text(value, texts, key) for value in listed]
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise UserError(f"{key} names {repeated[0]!r} more than once: list each label once")
    return labels


def label_text(value: Any, texts: dict[Any, list[str]], key: str) -> str:
    """Return the table's text for one listed value.

    Args:
        texts: the table's texts, by how YAML reads them.
    """
    if isinstance(value, str):
        return value
    spellings = texts.get(yaml_key(value), [])
    if len(spellings) == 1:
        return spellings[0]
    if isinstance(value, int) and not isinstance(value, bool) and not spellings:
        return str(value)  # a class without images
    found = f"the table has {' and '.join(map(repr, spellings))}" if spellings else "the table has no such label"
    raise UserError(f"{key}: YAML reads one of its labels as {value!r}, and {found}: put the label in quotes")


def as_yaml(text: str) -> Any:
    """Return what YAML reads where a file has this text without quotes."""
    try:
        content: Any = OmegaConf.create(f"label: {text}")
        return yaml_key(content["label"])
    except Exception:  # no YAML on its own, such as `a: b`; then it cannot be listed without quotes either
        return text


def yaml_key(value: Any) -> Any:
    """Return a key that keeps 1 and True apart, which are equal in Python."""
    return (type(value).__name__, value) if isinstance(value, bool | int | float) else value


def positive_label(competition: Competition, labels: list[str]) -> str | None:
    """Return the label of `submit.positive` as the table spells it; None for the last of two.

    Raises:
        UserError: it is no label, or is missing where there are more than two labels.
    """
    if competition.submit.positive is None:
        if competition.submit.as_ == "probability" and len(labels) > 2:
            raise UserError(
                f"{competition.file}: submit.as=probability asks for the probability of one label, and there are"
                f" {len(labels)}: name it in submit.positive, or set submit.as to columns; the labels are"
                f" {shortened(labels)}"
            )
        return None
    (positive,) = listed_labels([competition.submit.positive], labels, f"{competition.file}: submit.positive")
    if positive not in labels:
        near = difflib.get_close_matches(positive, labels, n=1)
        raise UserError(
            f"{competition.file}: submit.positive={positive} is no label: choose one of {shortened(labels)}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    return positive


def shortened(names: list[str]) -> str:
    """Return at most eight names as text."""
    return ", ".join(names[:8]) + (f", … ({len(names)})" if len(names) > 8 else "")
