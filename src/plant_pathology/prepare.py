"""Stage: the raw competition to shards of small images, with folds that no duplicate crosses.

The same input gives the same bytes on any number of workers. Every bad file is named in one error.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from omegaconf import DictConfig
from tqdm import tqdm

from plant_pathology.competition import Competition
from plant_pathology.images import ImageError, decode
from plant_pathology.shards import shard_name, write_shard
from plant_pathology.stage import StageError, stage, whole_folder, write_json


@stage
def main(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    raw = Path(cfg.paths.raw)
    table = competition.read_train(raw)
    images = raw / competition.train_images
    with whole_folder(Path(cfg.paths.prepared)) as folder:
        places = write_shards([images / name for name in table["image"]], folder, cfg.prepare)
        table = pd.concat([table, places], axis=1)
        table["group"] = duplicate_groups(table.pop("pixels"))
        targets = one_hot(table["labels"], competition.labels)
        table["fold"] = folds(targets.to_numpy(), table["group"], cfg.prepare.folds, cfg.seed)
        duplicates = describe_duplicates(table)
        index = table.assign(labels=table["labels"].str.join(competition.separator))
        index = index[["image", "labels", "fold", "group", "shard", "row"]].join(targets)
        index.to_csv(folder / "index.csv", index=False)
        write_json(
            folder / "manifest.json",
            {
                "competition": competition.name,
                "synthetic": competition.synthetic,
                "multilabel": competition.multilabel,
                "labels": competition.labels,
                "image_size": cfg.prepare.image_size,
                "images": len(table),
                "images_with_label": dict(zip(competition.labels, targets.sum().tolist(), strict=True)),
                "images_in_fold": table["fold"].value_counts().sort_index().tolist(),
                "duplicates": duplicates,
            },
        )
    contradictory = sum(pair["contradictory"] for pair in duplicates)
    print(
        f"{cfg.paths.prepared}: {len(table)} images of {cfg.prepare.image_size} px in {cfg.prepare.folds} folds;"
        f" {len(duplicates)} pictures more than once, {contradictory} of them with contradictory labels"
    )


def write_shards(paths: list[Path], folder: Path, prepare: DictConfig) -> pd.DataFrame:
    """Decode `paths` in parallel and write them as shards.

    Returns:
        A row an image, in order: `shard`, `row`, and `pixels`, the SHA-256 of the decoded image.

    Raises:
        StageError: listing every file that is no whole image.
    """
    places, rows, problems = [], [], []
    for image in tqdm(
        decode_all(paths, prepare.image_size, prepare.workers), "prepare", len(paths), unit="img", disable=None
    ):
        if isinstance(image, ImageError):
            problems.append(str(image))
            continue
        shard = shard_name(len(places) // prepare.rows_per_shard)
        places.append((shard, len(rows), hashlib.sha256(image.tobytes()).hexdigest()))
        rows.append(image)
        if len(rows) == prepare.rows_per_shard:
            write_shard(folder / shard, rows)
            rows = []
    if problems:
        raise StageError(
            f"{len(problems)} image(s) cannot be read\n  "
            + "\n  ".join(problems)
            + "\nreplace them (make download), or"
            " take their lines out of the training table"
        )
    if rows:
        write_shard(folder / shard, rows)
    return pd.DataFrame(places, columns=["shard", "row", "pixels"])


def decode_all(paths: list[Path], side: int, workers: int | None) -> Iterator[np.ndarray | ImageError]:
    """Decode in parallel, in order; a file that fails gives its error in the image's place."""
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(partial(_decode_or_error, side=side), paths, chunksize=16)


def _decode_or_error(path: Path, side: int) -> np.ndarray | ImageError:
    try:
        return decode(path, side)
    except ImageError as error:
        return error


def one_hot(labels: Iterable[list[str]], vocabulary: list[str]) -> pd.DataFrame:
    """Lists of names to a column is_<label> of 0 and 1 a label, in the vocabulary's order."""
    return pd.DataFrame({f"is_{name}": [int(name in row) for row in labels] for name in vocabulary})


def duplicate_groups(pixels: pd.Series) -> pd.Series:
    """Give images with the same pixels the same group: the position of the first of them."""
    first = pixels.drop_duplicates()
    return pixels.map(pd.Series(first.index, index=first.to_numpy()))


def folds(targets: np.ndarray, groups: pd.Series, count: int, seed: int) -> np.ndarray:
    """Deal images to folds with about equal label counts, a group never to two.

    Args:
        targets: (n, labels) 0 or 1.
        groups: (n,) group of each image.

    Returns:
        (n,) fold number of each image.

    Raises:
        StageError: there are fewer groups than folds.
    """
    merged = pd.DataFrame(targets).groupby(groups.to_numpy()).max()
    if not 2 <= count <= len(merged):
        raise StageError(f"prepare.folds={count}: {len(merged)} different images allow 2 to {len(merged)} folds")
    splitter = MultilabelStratifiedKFold(count, shuffle=True, random_state=seed)
    fold_of = pd.Series(-1, index=merged.index)
    for fold, (_, members) in enumerate(splitter.split(merged, merged)):
        fold_of.iloc[members] = fold
    return groups.map(fold_of).to_numpy()


def describe_duplicates(table: pd.DataFrame) -> list[dict]:
    """The pictures that appear more than once: their file names, and whether their labels contradict."""
    repeated = table[table["group"].duplicated(keep=False)]
    return [
        {"images": rows["image"].tolist(), "contradictory": len({frozenset(row) for row in rows["labels"]}) > 1}
        for _, rows in repeated.groupby("group")
    ]


if __name__ == "__main__":
    main()
