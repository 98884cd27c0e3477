"""Look into a competition's folder, and write a first file for conf/competition/ with what can be seen in it.

The form, the tables and the files' names say most of it. Each line that they leave open is a guess, with a comment
above it. Images are not opened.
"""

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from plant_pathology.competition.guess import Guess, groups_of, guess, one_hot_columns, target_column, target_of_columns
from plant_pathology.competition.path_labels import folder_template, name_template
from plant_pathology.competition.seen import Seen, see
from plant_pathology.competition.templates import UNREADABLE, Match, best_match
from plant_pathology.core.errors import UserError
from plant_pathology.core.yaml_flow import flow
from plant_pathology.inference.tables import match, root_of
from plant_pathology.inference.test_set import TestSet

DEFAULT_FORM = "sample_submission.csv"
FORM = re.compile(r"sample|submission", re.I)
LEAST = 0.3  # of a table's images must be here and not be for the test
WIDTH = 116  # of a comment
HEADER = "# A first look at the folder. Compare with the competition's page on Kaggle what is below a guess."


@dataclass(frozen=True)
class TestPart:
    """The form and the test images; `section` is `test:` of the file."""

    section: dict[str, str]
    id: str
    answers: pd.DataFrame
    images: frozenset[str]
    notes: list[str]


@dataclass(frozen=True)
class TrainPart:
    """The training images; `section` is `train:` of the file.

    Args:
        ids: columns that say which image it is.
        target: column with the target; None where each label may have a column.
        names: what names labels, as in Seen: the folders that do.
    """

    section: dict[str, str]
    table: pd.DataFrame
    ids: list[str]
    target: str | None
    notes: list[str]
    names: dict[str, set[str]] = field(default_factory=dict)


def look(folder: Path) -> str:
    """Return the text of a first conf/competition/<the folder's name>.yaml.

    Args:
        folder: the competition's, as Kaggle ships it.

    Raises:
        UserError: it has no form, no image, or nothing that tells the labels.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: give the competition's folder, as Kaggle ships it")
    name = folder.resolve().name
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"{folder}: rename it to the competition's name on Kaggle, as in its address")
    seen = see(folder)
    test = look_at_test(folder, seen)
    train = look_at_train(folder, seen, test)
    found = guess(test.answers, train.table, train.target, seen.names | train.names)
    found.groups = groups_of(train.table, [*train.ids, str(found.target.get("column"))])
    if found.groups:
        found.note("groups", "guessed: no fold splits these, because of their names and recurring values; else []")
    found.notes |= {
        "train": train.notes,
        "test": test.notes,
        "title": ["guessed: from the folder's name; else as on its page"],
    }
    return written(name, train.section, test.section, found)


def look_at_test(folder: Path, seen: Seen) -> TestPart:
    """Find the form, its column with the ids, and how ids lead to images.

    Raises:
        UserError: there is no form.
    """
    forms = [
        path
        for path, table in seen.tables.items()
        if path.endswith(".csv") and FORM.search(PurePosixPath(path).name) and len(table)
    ]
    if not forms:
        raise UserError(
            f"{folder} has no csv form, with rows and with sample or submission in its name: unpack its archives, or"
            f" name the form {DEFAULT_FORM}"
        )
    forms.sort(key=lambda path: (path != DEFAULT_FORM, "submission" not in path.lower(), path.count("/"), len(path)))
    form = forms[0]
    table = seen.tables[form]
    notes = []
    if len(forms) > 1:
        notes.append(f"guessed: form {form}, because of its name; else {', '.join(forms[1:4])}")
    named = [str(column) for column in table if column]
    if len(named) < 2:
        raise UserError(f"{folder / form} has no columns for ids and answers: download it again")
    section = {} if form == DEFAULT_FORM else {"form": form}
    possible = [column for column in named if table[column].is_unique] or named[:1]
    id_, reached = possible[0], None
    for column in possible:
        found = ids_to_images(table[[column]], column, seen, form, parts=column == named[0])
        if found and (reached is None or len(found[1].found) > len(reached.found)):
            id_, (ways, reached) = column, found
    section |= {} if id_ == named[0] else {"id": id_}
    if reached is None:
        section["files"] = f"test/{{{id_}}}"
        notes.append(f"not found: no image is named like the ids of {form}, such as {table[id_].iloc[0]}; set files")
    else:
        section |= ways
        notes += lacking(reached)
    answers = table[[column for column in named if column != id_]]
    return TestPart(section, id_, answers, reached.found if reached else frozenset(), notes)


def lacking(reached: Match) -> list[str]:
    """Return the comment on a template that does not lead every row to an image; none where it does."""
    count = len([path for path in reached.paths if path not in reached.found])
    text = f"guessed: files, because most images are found so; {count} of {len(reached.paths)} are not"
    return [] if reached.complete else [text]


def ids_to_images(
    ids: pd.DataFrame, column: str, seen: Seen, form: str, parts: bool
) -> tuple[dict[str, str], Match] | None:
    """Return the keys of `test:` by which ids lead to images, and what they reach; None where no way is found.

    Ids that name images need no table; others are looked up in one that has all of them.

    Args:
        parts: ids may be a part of the file's name.
    """
    direct = best_match(ids, seen.images, "test", parts=parts)
    if direct and direct.complete:
        return {"files": direct.template}, direct
    joined = []
    wanted = set(ids[column])
    for path, table in seen.tables.items():
        default = TestSet(form, "").key_of(table, column)
        for key in [default, *(each for each in table if each not in ("", default))] if path != form else ():
            if key not in table or not table[key].is_unique or not wanted <= set(table[key]):
                continue
            rows = table.set_index(key, drop=False).loc[ids[column]].reset_index(drop=True)
            if found := best_match(rows, seen.images, "test"):
                ways = {"table": path} | ({} if key == default else {"key": str(key)}) | {"files": found.template}
                joined.append((len(found.found), "test" in path.lower(), key == default, ways, found))
    if joined:
        *_, ways, found = max(joined, key=lambda each: each[:3])
        if direct is None or len(found.found) > len(direct.found):
            return ways, found
    return ({"files": direct.template}, direct) if direct else None


def look_at_train(folder: Path, seen: Seen, test: TestPart) -> TrainPart:
    """Find the training table and how its rows lead to images; or the labels in the images' paths.

    Raises:
        UserError: no table leads to images and labels, and no path tells labels.
    """
    train = tables_to_images(seen, test, sure=True) or look_at_paths(folder, seen, test)
    train = train or tables_to_images(seen, test, sure=False)
    if train is None:
        raise UserError(
            f"{folder} has no table that leads to images and labels, and neither folders nor names of images tell them:"
            f" write conf/competition/{folder.resolve().name}.yaml by hand"
        )
    if UNREADABLE in {PurePosixPath(path).suffix for path in (train.section["files"], *train.table.iloc[0])}:
        train.notes.append(
            f"Pillow does not read {UNREADABLE}: write open_image in competitions/{folder.resolve().name}.py"
        )
    return train


def tables_to_images(seen: Seen, test: TestPart, sure: bool) -> TrainPart | None:
    """Return the table that fits the form best of those whose rows lead to images; None without one.

    Args:
        sure: as in `target_column`.
    """
    asked, several = set(test.answers), len(test.answers.columns) > 1
    candidates = []
    for path, table in seen.tables.items():
        if path == test.section.get("form", DEFAULT_FORM):
            continue
        found = best_match(table, seen.images, "train", test.images, test.id)
        if found is None:
            continue
        ids = [found.column] if test.id in asked else [found.column, test.id]
        target = None if several else target_column(test.answers, table, ids, sure)
        told = (not sure or target_of_columns(test.answers, table)) if several else (target or one_hot_columns(table))
        new = found.found - test.images
        if told and len(new) >= LEAST * len(set(found.paths)):
            rank = (asked <= set(table), len(new), "train" in path.lower())
            candidates.append((rank, path, table, found, ids, target))
    if not candidates:
        return None
    candidates.sort(key=lambda each: each[0], reverse=True)
    _, path, table, found, ids, target = candidates[0]
    notes = []
    if len(candidates) > 1:
        others = ", ".join(each[1] for each in candidates[1:4])
        notes.append(f"guessed: table {path}, because it fits the form best; else {others}")
    notes += lacking(found)
    return TrainPart({"table": path, "files": found.template}, table, ids, target, notes)


def look_at_paths(folder: Path, seen: Seen, test: TestPart) -> TrainPart | None:
    """Find the labels in the paths of images that are not for the test: a folder for each, or a part of the name."""
    root = root_of(test.section["files"])
    images = sorted(path for path in seen.images.paths - test.images if not root or not path.startswith(f"{root}/"))
    images = [path for path in images if "train" in path.rpartition("/")[0].lower()] or images
    label = str(test.answers.columns[0]) if len(test.answers.columns) == 1 else "label"
    file = next(each for each in (test.id, "file", "name", "image") if each != label)
    shown = set(test.answers.iloc[:, 0]) | set(test.answers)
    template = folder_template(images, label, file) or name_template(images, label, file, shown)
    if template is None:
        return None
    table = match(template, folder)
    labels = sorted(set(table[label]))
    reason = f"no table leads to images, and {len(labels)} texts recur there, such as {labels[0]}"
    note = f"guessed: labels from the files' paths, because {reason}; else a table"
    return TrainPart({"files": template}, table, [file], label, [note], {template: set(labels)})


def written(name: str, train: dict[str, str], test: dict[str, str], found: Guess) -> str:
    """Return the file's text: a line per section, below the comments on it."""
    title = " ".join(word[:1].upper() + word[1:] for word in re.split(r"[-_]+", name) if word)
    sections: dict[str, Any] = {"name": name, "title": title, "train": train, "test": test}
    sections |= {"target": found.target, "metric": found.metric}
    sections |= {"groups": found.groups} if found.groups else {}
    sections |= {"submit": found.submit}
    lines = ["# @package _global_", HEADER, "competition:"]
    for section, value in sections.items():
        for note in found.notes.get(section, []):
            lines += [f"  # {line}" for line in textwrap.wrap(note, WIDTH, break_on_hyphens=False)]
        lines.append(f"  {section}: {flow(value)}")
    return "\n".join(lines) + "\n"
