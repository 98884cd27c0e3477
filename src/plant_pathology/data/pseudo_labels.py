"""Write a table of pseudo-labels: what the bundle answers for images without labels, where it is sure (Lee 2013).

A bundle predicts the images of a folder in data/extra. One whose answer is certain enough gets a row in a table beside
the folder, with that answer as its labels.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.added_table import leads_out
from plant_pathology.competition.bundle import checked_bundle
from plant_pathology.competition.relabel import cell_of
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.core.one_command import one_command
from plant_pathology.inference.outputs import NUMBER, SEVERAL
from plant_pathology.inference.tables import files_below

SHOWN = 5  # files that cannot be read


def write_pseudo_labels(cfg: DictConfig) -> None:
    """Write data/extra/<folder>-pseudo.csv (columns image, labels and probability), and print a summary.

    Raises:
        UserError: there is no such folder or image, the table exists, the competition predicts numbers, no answer is
            certain enough, or the bundle is damaged or for something else than the config describes today.
        BusyError: another command writes the bundle.
    """
    competition, extra, name = Competition.from_config(cfg), Path(cfg.paths.extra), cfg.pseudo_label.images
    if competition.target.kind == NUMBER:
        raise UserError(f"{competition.name} predicts numbers, which have no probability: no answer is sure")
    images = images_of(extra, name)
    path = extra / f"{name.strip('/').replace('/', '-')}-pseudo.csv"
    if path.exists():
        raise UserError(f"{path} exists, and somebody may have reviewed it: rename it, or delete it, and start again")
    best = Path(cfg.paths.models) / "best"
    with one_command(writes=[], reads=[best.parent]):
        spec = checked_bundle(best, competition)
        outputs, problems = predicted(best, [extra / image for image in images])
    for problem in problems[:SHOWN]:
        print(f"unreadable, gets no labels: {problem}")
    if len(problems) > SHOWN:
        print(f"… and {len(problems) - SHOWN} more")
    answered = answers(images, outputs, spec["answers"]["labels"], competition)
    sure = answered[answered["probability"] >= cfg.pseudo_label.sure]
    if sure.empty:
        raise UserError(
            f"pseudo_label.sure={cfg.pseudo_label.sure:g}: no answer for {len(images)} images is as certain; the surest"
            f" has {answered['probability'].max():.4f}: lower it, or add other images"
        )
    with atomic_file(path) as work:
        sure.to_csv(work, index=False, float_format="%.4f")
    counts = ", ".join(f"{count} {labels or 'none'}" for labels, count in sure["labels"].value_counts().items())
    print(f"{path}: {len(sure)} of {len(images)} images labeled: {counts}")
    print(f"they train once they are prepared and pushed: prepare.extra={path.name}")


def images_of(extra: Path, name: str | None) -> list[str]:
    """Return the paths of the files in a folder of data/extra, below data/extra, sorted.

    Raises:
        UserError: no folder is named, it is elsewhere, or there is no file in it.
    """
    if name is None or leads_out(name) or not (extra / name).is_dir():
        raise UserError(
            f"pseudo_label.images={name or 'null'}: name a folder in {extra}, which DVC watches: copy images there"
        )
    files = files_below(extra, name)
    if not files:
        raise UserError(f"pseudo_label.images={name}: there is no file in {extra / name}")
    return files


def predicted(bundle: Path, paths: list[Path]) -> tuple[np.ndarray, list[str]]:
    """Return (n, labels) probabilities, NaN for an image that cannot be read; and a message for each of these."""
    from plant_pathology.inference.predictor import Predictor  # here, because torch and timm take seconds

    predictor = Predictor(bundle)
    outputs, problems = np.full((len(paths), predictor.spec["outputs"]), np.nan, np.float32), []
    start = 0
    for errors, batch in predictor.outputs(paths):
        read = [start + place for place, error in enumerate(errors) if error is None]
        outputs[read] = batch
        problems += [str(error) for error in errors if error]
        start += len(errors)
    return outputs, problems


def answers(images: list[str], outputs: np.ndarray, labels: list[str], competition: Competition) -> pd.DataFrame:
    """Return each image's likeliest labels: image, labels, and probability, which is 0 where there is no answer.

    Args:
        outputs: (n, labels) probabilities; NaN for an image that cannot be read.
    """
    kind = competition.target.kind
    chosen = outputs >= 0.5 if kind == SEVERAL else outputs == outputs.max(axis=1, keepdims=True)
    # Where labels stand in one column, each image has one: an empty cell would be a mistake.
    answered = chosen.any(axis=1) | (competition.target.column is None)
    names = [[label for label, has in zip(labels, row, strict=True) if has] for row in chosen.tolist()]
    cells = [cell_of(each, competition.target) for each in names]
    probability = np.nan_to_num(np.where(answered, certainty(outputs, kind), 0))
    return pd.DataFrame({"image": images, "labels": cells, "probability": probability})


def certainty(outputs: np.ndarray, kind: str) -> np.ndarray:
    """Return how certain each image's answer is: the probability of its label, or that of the least certain label.

    Args:
        outputs: (n, labels) probabilities.
        kind: of the target; of several labels each has a probability of its own.
    """
    return np.maximum(outputs, 1 - outputs).min(axis=1) if kind == SEVERAL else outputs.max(axis=1)
