"""Describe a competition (conf/competition/), and read its raw files into one table."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError


@dataclass(frozen=True)
class Competition:
    """Hold the keys of one file of conf/competition/, where each is explained."""

    name: str
    title: str
    synthetic: bool
    train_csv: str
    train_images: str
    test_images: str
    sample_submission: str
    image_column: str
    label_column: str
    separator: str
    multilabel: bool
    labels: list[str]

    @classmethod
    def from_config(cls, cfg: DictConfig) -> "Competition":
        """Read `competition:` from the config.

        Raises:
            UserError: a key is missing or unknown, or the list of labels is empty or has duplicates.
        """
        values: Any = OmegaConf.to_container(cfg.competition, resolve=True)
        where = f"conf/competition/{values.get('name')}.yaml"
        fields = set(cls.__dataclass_fields__)
        if missing := sorted(fields - set(values)):
            raise UserError(f"{where}: add the missing {', '.join(missing)} under competition:")
        if unknown := sorted(set(values) - fields):
            raise UserError(f"{where}: unknown {', '.join(unknown)}; the keys are {', '.join(sorted(fields))}")
        labels = values["labels"]
        if not labels or len(set(labels)) != len(labels):
            raise UserError(f"{where}: competition.labels must name each label once, not {labels}")
        return cls(**values)

    def read_train(self, raw: Path) -> pd.DataFrame:
        """Read the training table (train.csv).

        Args:
            raw: folder of the competition's files.

        Returns:
            One row per line, in the file's order: `image` (file name), `labels` (list of names) and `problems` (list of
            messages about the line or its image file).

        Raises:
            UserError: the table is missing, unreadable or empty.
        """
        path = raw / self.train_csv
        table = self._read(path, raw)
        if table.empty:
            raise UserError(f"{path} lists no images: download the competition again (make download)")
        names, labels = table[self.image_column], pd.Series(self.label_lists(table[self.label_column]))
        present = self.train_files(raw)
        repeated = self._repeated_names(names, labels)
        problems = [
            [f"unknown label {label!r}" for label in row if label not in self.labels]
            + ([repeated[line]] if line in repeated else [])
            + (["not a plain file name"] if Path(name).name != name else [])
            + ([f"not in {self.train_images}/"] if name not in present else [])
            for line, (name, row) in enumerate(zip(names, labels, strict=True))
        ]
        return pd.DataFrame({"image": names, "labels": labels, "problems": problems})

    def train_files(self, raw: Path) -> set[str]:
        """Return the names of all files in the folder of training images, in the table or not.

        Raises:
            UserError: there is no such folder.
        """
        try:
            with os.scandir(raw / self.train_images) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{raw / self.train_images} is not a folder: download the competition again (make download),"
                f" or set competition.train_images in conf/competition/{self.name}.yaml"
            ) from None

    def label_lists(self, cells: Iterable[str]) -> list[list[str]]:
        """Split cells of the label column into lists of names."""
        return [cell.split(self.separator) if self.multilabel else [cell] for cell in cells]

    def one_hot(self, labels: Iterable[list[str]]) -> pd.DataFrame:
        """Return one column is_<label> of 0 and 1 per label of the competition, in its order."""
        return pd.DataFrame({f"is_{name}": [int(name in row) for row in labels] for name in self.labels})

    def read_sample_submission(self, raw: Path) -> pd.DataFrame:
        """Read sample_submission.csv: one row per test image, with at least the image and the label column.

        Raises:
            UserError: the file is missing, unreadable, or has other columns.
        """
        return self._read(raw / self.sample_submission, raw)

    def _read(self, path: Path, raw: Path) -> pd.DataFrame:
        if not raw.is_dir():
            raise UserError(
                f"{raw} does not exist: run `make repro` (sample), `make repro RAW=<folder>` or `make download`"
            )
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise UserError(
                f"{path} does not exist: {raw} must hold the competition's files as Kaggle ships them"
                f" ({self.train_csv}, {self.train_images}/, {self.test_images}/, {self.sample_submission})"
            ) from None
        except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a CSV table ({error}): download it again (make download)") from None
        if absent := [c for c in (self.image_column, self.label_column) if c not in table]:
            raise UserError(
                f"{path} has no column {', '.join(absent)}, but {', '.join(table)}:"
                f" set image_column and label_column in conf/competition/{self.name}.yaml"
            )
        return table

    def _repeated_names(self, names: pd.Series, labels: pd.Series) -> dict[int, str]:
        """Return a problem for lines that share a name: for all but the first where labels agree, else for all."""
        problems: dict[int, str] = {}
        for _, rows in labels[names.duplicated(keep=False)].groupby(names):
            agree = len({frozenset(row) for row in rows}) == 1
            text = "listed before" if agree else "listed more than once, with different labels"
            problems |= dict.fromkeys(rows.index[1:] if agree else rows.index, text)
        return problems
