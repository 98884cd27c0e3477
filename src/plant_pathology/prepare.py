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
from plant_pathology.index import write_index
from plant_pathology.shards import encode, shard_name, write_shard
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
        table["group"] = duplicate_groups(table["pixels"])
        targets = one_hot(table["labels"], competition.labels)
        table["fold"] = folds(targets.to_numpy(), table["group"], cfg.prepare.folds, cfg.seed)
        duplicates = describe_duplicates(table)
        index = table.assign(labels=table["labels"].str.join(competition.separator)).join(targets)
        write_index(folder, index, competition.labels)
        write_json(
            folder / "manifest.json",
            {
                "competition": competition.name,
                "synthetic": competition.synthetic,
                "multilabel": competition.multilabel,
                "labels": competition.labels,
                "image_size": cfg.prepare.image_size,
                "encoding": cfg.prepare.encoding,
                "quality": cfg.prepare.quality,
                "shard_mb": cfg.prepare.shard_mb,
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
    """Decode `paths` in parallel and write them as shards, each a random sample of all: so a run can shuffle within
    the few shards that it has, whatever order the images came in.

    Returns:
        A row an image, in the order of `paths`: `shard`, `row`, and `pixels`, the SHA-256 of the decoded image.

    Raises:
        StageError: listing every file that is no whole image.
    """
    order = sorted(range(len(paths)), key=lambda i: hashlib.sha256(paths[i].name.encode()).digest())
    decoded = decode_all([paths[i] for i in order], prepare)
    places: dict[int, tuple[int, int, str]] = {}
    rows: list[bytes] = []
    problems = []
    shard = 0
    for position, image in tqdm(zip(order, decoded, strict=True), "prepare", len(paths), unit="img", disable=None):
        if isinstance(image, ImageError):
            problems.append(str(image))
            continue
        pixels, row = image
        places[position] = (shard, len(rows), pixels)
        rows.append(row)
        if sum(map(len, rows)) >= prepare.shard_mb * 1e6:
            write_shard(folder / shard_name(shard, prepare.encoding), rows, prepare.image_size)
            shard, rows = shard + 1, []
    if problems:
        raise StageError(
            f"{len(problems)} image(s) cannot be read\n  "
            + "\n  ".join(sorted(problems))
            + "\nreplace them (make download), or take their lines out of the training table"
        )
    if rows:
        write_shard(folder / shard_name(shard, prepare.encoding), rows, prepare.image_size)
    return pd.DataFrame([places[i] for i in range(len(paths))], columns=["shard", "row", "pixels"])


def decode_all(paths: list[Path], prepare: DictConfig) -> Iterator[tuple[str, bytes] | ImageError]:
    """Decode in parallel, in order: the pixels' SHA-256 and the row to store, or the error of a file that fails."""
    job = partial(_decode_or_error, side=prepare.image_size, encoding=prepare.encoding, quality=prepare.quality)
    with ProcessPoolExecutor(prepare.workers) as pool:
        yield from pool.map(job, paths, chunksize=16)


def _decode_or_error(path: Path, side: int, encoding: str, quality: int) -> tuple[str, bytes] | ImageError:
    try:
        pixels = decode(path, side)
    except ImageError as error:
        return error
    return hashlib.sha256(pixels.tobytes()).hexdigest(), encode(pixels, encoding, quality)


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
