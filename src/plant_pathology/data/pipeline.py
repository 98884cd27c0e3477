"""Stage: the raw competition to shards of small images, with folds that no duplicate crosses.

The same input gives the same bytes on any number of workers. Started again, it goes on after the last image decoded;
new images cost only themselves. Every bad line and file is named in one list.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, write_json
from plant_pathology.data import duplicates
from plant_pathology.data.decode_cache import Decoded, open_decoded
from plant_pathology.data.index import write_index
from plant_pathology.data.shards import shard_name, write_shard


def prepare(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    settings = cfg.prepare
    if settings.duplicates == "merge" and not competition.multilabel:
        raise UserError(
            f"prepare.duplicates=merge: {competition.name} has one label an image, a union has several;"
            " choose keep or drop"
        )
    raw, prepared, reports = Path(cfg.paths.raw), Path(cfg.paths.prepared), Path(cfg.paths.reports) / "data"
    images = raw / competition.train_images
    table = competition.read_train(raw)
    files = competition.train_files(raw)
    listed = sorted(files & set(table["image"]))
    unlisted = sorted(files - set(table["image"]))
    with open_decoded(Path(cfg.paths.decoded), settings.image_size, settings.encoding, settings.quality) as decoded:
        new, unreadable = decoded.add([images / name for name in listed], settings.workers)
        for name, problems in zip(table["image"], table["problems"], strict=True):
            problems.extend([unreadable[name]] if name in unreadable else [])
        good, quarantine = part(table, raw, competition, settings.on_bad)
        good = good.join(decoded.facts(good["image"]))
        good["group"], repeated = duplicates.find(good, settings.near_bits)
        kept = duplicates.resolve(good, settings.duplicates)
        targets = competition.one_hot(kept["labels"])
        kept["fold"] = folds(targets.to_numpy(), kept["group"], settings.folds, cfg.seed)
        # Imported here, so that bad input is told of without waiting for Matplotlib.
        from plant_pathology.data import plots as eda

        with atomic_folder(reports) as folder:
            eda.draw(good, repeated, images, competition, folder)
        with atomic_folder(prepared) as folder:
            places = write_shards(kept["image"].tolist(), decoded, folder, settings)
            index = kept.assign(labels=kept["labels"].str.join(competition.separator)).join([targets, places])
            write_index(folder, index, competition.labels)
            if len(quarantine):
                quarantine.to_csv(folder / "quarantine.csv", index=False)
            manifest = {
                "competition": competition.name,
                "synthetic": competition.synthetic,
                "multilabel": competition.multilabel,
                "labels": competition.labels,
                "image_size": settings.image_size,
                "encoding": settings.encoding,
                "quality": settings.quality,
                "shard_mb": settings.shard_mb,
                "images": len(kept),
                "images_with_label": dict(zip(competition.labels, targets.sum().tolist(), strict=True)),
                "images_in_fold": kept["fold"].value_counts().sort_index().tolist(),
                "duplicates_policy": settings.duplicates,
                "duplicates": repeated,
                "quarantined": len(table) - len(good),
                "unlisted": unlisted,
            }
            write_json(folder / "manifest.json", manifest)
        decoded.prune()
    contradictory = sum(group["contradictory"] for group in repeated)
    print(
        f"{prepared}: {len(kept)} images of {settings.image_size} px in {settings.folds} folds;"
        f" {new} decoded, {len(listed) - new} known"
    )
    print(
        f"{len(repeated)} pictures more than once, {contradictory} of them with contradictory labels:"
        f" prepare.duplicates={settings.duplicates}; manifest.json names them"
    )
    if len(quarantine):
        print(f"{len(table) - len(good)} bad lines of {competition.train_csv} left out; quarantine.csv says why")
    if unlisted:
        few = ", ".join(unlisted[:3]) + (", …" if len(unlisted) > 3 else "")
        print(f"{len(unlisted)} files of {competition.train_images}/ left out, not in {competition.train_csv}: {few}")


def part(table: pd.DataFrame, raw: Path, competition: Competition, on_bad: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part the lines with problems from the others.

    Args:
        table: image, labels, and problems, a list of reasons.

    Returns:
        The good lines, numbered anew; and image and reason, one row a problem.

    Raises:
        UserError: listing every problem, when `on_bad` is error or no line is good.
    """
    bad = table["problems"].str.len() > 0
    quarantine = table.loc[bad, ["image", "problems"]].explode("problems").rename(columns={"problems": "reason"})
    if bad.all() or (on_bad == "error" and bad.any()):
        lines = [f"line {line + 2}, {image}: {reason}" for line, image, reason in quarantine.itertuples()]
        path = raw / competition.train_csv
        raise UserError(
            f"{path}: {len(lines)} problem(s)\n  "
            + "\n  ".join(lines)
            + f"\nmend {path} or replace the images (make download); a label that is right goes into competition.labels"
            f" of conf/competition/{competition.name}.yaml ({', '.join(competition.labels)});"
            " prepare.on_bad=quarantine leaves bad lines out, as long as there are others"
        )
    return table[~bad].drop(columns="problems").reset_index(drop=True), quarantine


def write_shards(names: list[str], decoded: Decoded, folder: Path, prepare: DictConfig) -> pd.DataFrame:
    """Write images as shards, each a random sample of all: so a run can shuffle within the few shards that it has,
    whatever order the images came in.

    Returns:
        A row an image, in the order of `names`: `shard` and `row`.
    """
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    places = np.zeros((len(names), 2), int)
    rows: list[bytes] = []
    shard = 0
    for position, row in zip(order, decoded.encoded(names[i] for i in order), strict=True):
        if sum(map(len, rows)) >= prepare.shard_mb * 1e6:
            write_shard(folder / shard_name(shard, prepare.encoding), rows, prepare.image_size)
            shard, rows = shard + 1, []
        places[position] = shard, len(rows)
        rows.append(row)
    write_shard(folder / shard_name(shard, prepare.encoding), rows, prepare.image_size)
    return pd.DataFrame(places, columns=["shard", "row"])


def folds(targets: np.ndarray, groups: pd.Series, count: int, seed: int) -> np.ndarray:
    """Deal images to folds with about equal label counts, a group never to two.

    Args:
        targets: (n, labels) 0 or 1.
        groups: (n,) group of each image.

    Returns:
        (n,) fold number of each image.

    Raises:
        UserError: there are fewer groups than folds.
    """
    # Imported here, so that bad input is told of without waiting for scikit-learn.
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    merged = pd.DataFrame(targets).groupby(groups.to_numpy()).max()
    if not 2 <= count <= len(merged):
        raise UserError(f"prepare.folds={count}: {len(merged)} different images allow 2 to {len(merged)} folds")
    splitter = MultilabelStratifiedKFold(count, shuffle=True, random_state=seed)
    fold_of = pd.Series(-1, index=merged.index)
    for fold, (_, members) in enumerate(splitter.split(merged, merged)):
        fold_of.iloc[members] = fold
    return groups.map(fold_of).to_numpy()
