"""Find the template that leads from a table's columns to image files, such as `train/{id}.jpg`.

Ids come with an ending or without, below one folder or below folders that other columns name. So templates are read off
from the files that some rows' cells name, and the one that reaches most images with all rows is the right one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.inference.tables import FIELD, fill, root_of

UNREADABLE = ".dcm"  # by Pillow
ROWS = 40  # that templates are read off from
TRIED = 12  # templates that are tried on all rows


@dataclass(frozen=True)
class Images:
    """The image files of a competition.

    Args:
        paths: relative to its folder.
    """

    paths: frozenset[str]
    _sorted: list[str] = field(default_factory=list)
    _named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._sorted.extend(sorted(self.paths))
        for path in self._sorted:
            name = PurePosixPath(path)
            for key in {name.name, name.stem}:
                self._named[key].append(path)

    def named(self, cell: str) -> Iterator[tuple[str, str]]:
        """Yield what is before and after the cell in the path of each image that it names, the ending aside."""
        for path in self._named.get(cell.rpartition("/")[2], ()):
            for ending in ("", PurePosixPath(path).suffix):
                before = path.removesuffix(ending).removesuffix(cell)
                if path == before + cell + ending and before[-1:] in ("", "/"):
                    yield before, ending

    def containing(self, cell: str) -> Iterator[tuple[str, str]]:
        """Yield what is before and after the cell in the path of each image whose name has it as a part."""
        for path in self._sorted:
            place = path.rfind("/") + 1
            while (place := path.find(cell, place)) >= 0:
                yield path[:place], path[place + len(cell) :]
                place += 1


@dataclass(frozen=True)
class Match:
    """A template, and what it reaches.

    Args:
        template: with the table's columns in it.
        column: the one that is in the file's name.
        paths: one per row.
        found: those that are images.
    """

    template: str
    column: str
    paths: list[str]
    found: frozenset[str]

    @property
    def complete(self) -> bool:
        """Return whether every row has an image."""
        return self.found.issuperset(self.paths)


def best_match(
    table: pd.DataFrame,
    images: Images,
    part: str,
    taken: Iterable[str] = (),
    column: str | None = None,
    parts: bool = True,
) -> Match | None:
    """Return the template that reaches most images; None where none reaches any.

    Args:
        part: train or test; of templates that reach equally many, one whose folder is named so is taken.
        taken: images that do not count.
        column: the column to prefer, then.
        parts: a cell may be a part of the file's name.
    """
    others = {"train": "test", "test": "train"}[part]
    taken = frozenset(taken)

    def rank(match: Match) -> tuple[int, bool, bool, bool, bool, bool, int]:
        root = root_of(match.template).lower()
        whole = match.template.endswith("}")  # the cell holds the ending too
        return (
            len(match.found - taken),
            not match.template.endswith(UNREADABLE),
            part in root,
            others not in root and "mask" not in root,
            whole,
            match.column == column,
            -len(match.template),
        )

    matches = [match for match in all_matches(table, images, parts) if match.found - taken]
    return max(matches, key=rank, default=None)


def all_matches(table: pd.DataFrame, images: Images, parts: bool) -> list[Match]:
    """Return the templates that some of the rows suggest, tried on all rows.

    Args:
        parts: as in `best_match`.
    """
    named = table.loc[:, [bool(name) and not set("{}") & set(name) for name in table.columns]]
    some = named.iloc[np.unique(np.linspace(0, len(named) - 1, min(len(named), ROWS)).astype(int))]
    rows = some.to_dict("records")
    votes = Counter(template for row in rows for template in dict.fromkeys(suggestions(row, images.named)))
    if not votes and parts and len(some) > 1:
        # Only text that differs from row to row can be a part of a file's name.
        unlike = [name for name in some if some[name].nunique() == len(some)]
        few = some[unlike].head(8).to_dict("records")
        votes = Counter(template for row in few for template in dict.fromkeys(suggestions(row, images.containing)))
    matches = []
    for template, _ in votes.most_common(TRIED):
        paths = fill(template, named, "")
        matches.append(Match(template, FIELD.findall(template)[-1], paths, images.paths.intersection(paths)))
    return matches


def suggestions(row: dict[Any, str], around: Callable[[str], Iterator[tuple[str, str]]]) -> Iterator[str]:
    """Yield the templates that would lead from a row to images that its cells name.

    Args:
        around: yields what is before and after a cell in images' paths.
    """
    for column, cell in row.items():
        for before, after in around(cell) if cell else ():
            *folders, start = before.split("/")
            names = [
                [part, *(f"{{{name}}}" for name in row if row[name] == part and name != column)] for part in folders
            ]
            for parts in product(*names):
                yield "/".join([*parts, f"{start}{{{column}}}{after}"])
