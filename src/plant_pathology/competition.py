"""What changes from one competition to the next, and its raw layout read into one table."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from plant_pathology.stage import StageError


@dataclass(frozen=True)
class Competition:
    """One file of conf/competition/, as it stands."""

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
        """Raises: StageError on a key that is missing or unknown, or a vocabulary that is empty or repeats itself."""
        values = OmegaConf.to_container(cfg.competition, resolve=True)
        where = f"conf/competition/{values.get('name')}.yaml"
        fields = set(cls.__dataclass_fields__)
        if missing := sorted(fields - set(values)):
            raise StageError(f"{where}: add the missing {', '.join(missing)} under competition:")
        if unknown := sorted(set(values) - fields):
            raise StageError(f"{where}: unknown {', '.join(unknown)}; the keys are {', '.join(sorted(fields))}")
        labels = values["labels"]
        if not labels or len(set(labels)) != len(labels):
            raise StageError(f"{where}: competition.labels must name each label once, not {labels}")
        return cls(**values)

    def read_train(self, raw: Path) -> pd.DataFrame:
        """Read the training table of the raw folder.

        Returns:
            One row a listed image, in the file's order: `image` (file name) and `labels` (list of names).

        Raises:
            StageError: naming every problem of the table and its images at once.
        """
        path = raw / self.train_csv
        table = self._read(path, raw)
        names, cells = table[self.image_column], table[self.label_column]
        labels = self.label_lists(cells)
        problems = [
            f"line {line}: unknown label {label!r}"
            for line, row in enumerate(labels, start=2)
            for label in row
            if label not in self.labels
        ]
        problems += [f"{name} is listed twice" for name in names[names.duplicated()]]
        problems += [f"{name!r} is not a plain file name" for name in names if Path(name).name != name]
        problems += [f"{name} is not in {self.train_images}/" for name in self._absent(raw, names)]
        if problems:
            raise StageError(
                f"{path}: {len(problems)} problem(s)\n  "
                + "\n  ".join(problems)
                + f"\nmend them there, or the vocabulary in conf/competition/{self.name}.yaml"
                f" (competition.labels is {', '.join(self.labels)})"
            )
        if table.empty:
            raise StageError(f"{path} lists no images: download the competition again (make download)")
        return pd.DataFrame({"image": names, "labels": labels})

    def label_lists(self, cells: Iterable[str]) -> list[list[str]]:
        """The label column's cells as lists of names."""
        return [cell.split(self.separator) if self.multilabel else [cell] for cell in cells]

    def read_sample_submission(self, raw: Path) -> pd.DataFrame:
        """The submission's form: the image and label columns, one row a test image.

        Raises:
            StageError: the file is absent or has other columns.
        """
        return self._read(raw / self.sample_submission, raw)

    def _read(self, path: Path, raw: Path) -> pd.DataFrame:
        if not raw.is_dir():
            raise StageError(
                f"{raw} does not exist: run `make repro` (sample), `make repro RAW=<folder>` or `make download`"
            )
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise StageError(
                f"{path} does not exist: {raw} must hold the competition as Kaggle ships it"
                f" ({self.train_csv}, {self.train_images}/, {self.test_images}/, {self.sample_submission})"
            ) from None
        except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
            raise StageError(f"{path} is not a CSV table ({error}): download it again (make download)") from None
        if absent := [c for c in (self.image_column, self.label_column) if c not in table]:
            raise StageError(
                f"{path} has no column {', '.join(absent)}, only {', '.join(table)}:"
                f" set image_column and label_column in conf/competition/{self.name}.yaml"
            )
        return table

    def _absent(self, raw: Path, names: pd.Series) -> list[str]:
        folder = raw / self.train_images
        present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        return [name for name in names if name not in present]
