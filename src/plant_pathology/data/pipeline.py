"""The steps of `prepare`: turn a competition's raw files into shards of small images, an index, and figures.

The same input gives the same bytes with any number of workers. A restart continues after the last image decoded, and
only new images are decoded. All bad rows and image files are reported in one list.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.form import check_form
from plant_pathology.competition.relabel import relabeled
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import TrainTable, read_train, targets_of
from plant_pathology.core.disk import require_space
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, remove_leftovers, write_json
from plant_pathology.core.hashes import file_hash, write_sums
from plant_pathology.data import duplicates, findings
from plant_pathology.data.decode_cache import DecodeCache, open_decode_cache
from plant_pathology.data.extra import joined, read_extra
from plant_pathology.data.folds import assign_folds
from plant_pathology.data.index import write_index
from plant_pathology.data.shards import write_shards
from plant_pathology.data.teacher import read_teacher
from plant_pathology.inference.decode import RULES
from plant_pathology.inference.tables import places

QUARANTINE = "quarantine.csv"
SHOWN_LABELS = 50  # more of them would bury the error message
SHOWN_PROBLEMS = 100
LEAST_BYTES = {"raw": 3, "jpeg": 0.2}  # of a pixel; JPEG of photographs takes 0.2 at quality 85, and more above


def prepare(cfg: DictConfig) -> None:
    """Write data/prepared and reports/data, as `prepare:` in the config says, and print a summary.

    Raises:
        UserError: the competition's files are not as its config says, the input has bad rows or files and
            `prepare.on_bad` is error, or a setting does not fit the data.
    """
    competition, settings = Competition.from_config(cfg), cfg.prepare
    check_duplicates_policy(settings.duplicates, competition)
    raw, prepared, reports = Path(cfg.paths.raw), Path(cfg.paths.prepared), Path(cfg.paths.reports) / "data"
    train, corrected = relabeled(read_train(competition, raw), settings.relabel, Path(cfg.paths.code), competition)
    check_form(competition, raw, train.labels)
    extra = read_extra(competition, settings.extra, Path(cfg.paths.extra), train.labels)
    teacher = read_teacher(settings.teacher, Path(cfg.paths.extra), train.labels)
    listed = sorted(train.rows.loc[train.rows["present"], "image"].unique().tolist())
    files = {name: train.folder / name for name in listed} | (extra.files if extra else {})
    with open_decode_cache(
        Path(cfg.paths.decoded), settings.image_size, settings.encoding, settings.quality, competition.code
    ) as decoded:
        missing = decoded.missing(files)
        check_space(Path(cfg.paths.decoded), prepared, len(missing), len(files), settings)
        new, unreadable = decoded.decode_missing(files, settings.workers)
        if extra:
            extra.check_readable(unreadable)
        good, bad = split_off_bad_rows(train, unreadable, competition, settings.on_bad)
        good = good.join(decoded.facts(good["image"]))
        findings.check_depth(good, competition)
        near, repeated = duplicates.find_duplicates(good, settings.near_bits)
        good = good.join(near)
        kept = duplicates.apply_policy(good, settings.duplicates)
        kept["group"] = duplicates.join_groups(kept["group"], kept[competition.group_columns])
        targets = targets_of(kept["labels"], train.labels, competition.target.kind)
        # By the labels that the table lists, so that corrected ones move no image to another fold.
        stratified = targets_of(kept["listed"], train.labels, competition.target.kind) if corrected else targets
        if teacher:
            # Not of corrected or merged labels: the teacher may have had those of the table.
            same = (kept["labels"] == kept["listed"]).to_numpy()
            teacher.check(kept["image"][same].tolist(), targets[same], train.source)
        kept["fold"] = assign_folds(
            competition.target.kind, stratified, kept["group"].to_numpy(), settings.folds, cfg.seed
        )
        write_figures(good, repeated, train, competition, reports)
        manifest = {
            **describe_format(competition, train.labels, settings),
            "images": len(kept),
            **describe_targets(targets, train.labels),
            **findings.find(good, kept, repeated, targets, train.labels, settings.folds),
            "duplicates": repeated,
            "relabeled": corrected and corrected | {"accepted": int(good["relabeled"].sum())},
            "extra": None,
            "teacher": None,
            "quarantined": len(train.rows) - len(good),
            "unlisted": train.unlisted,
        }
        if extra:
            kept, manifest["extra"] = joined(kept, good, extra, decoded, settings.near_bits)
            targets = targets_of(kept["labels"], train.labels, competition.target.kind)
        with atomic_folder(prepared) as folder:
            write_images(folder, kept, targets, decoded, competition, settings)
            if teacher:
                manifest["teacher"] = teacher.write(folder, kept["image"].tolist())
            if len(bad):
                bad.to_csv(folder / QUARANTINE, index=False)
            write_json(folder / "manifest.json", manifest)
            write_sums(folder)
        decoded.prune()
        remove_leftovers(prepared, reports)
    print(
        f"{prepared}: {manifest['images']} images of {settings.image_size} px in {settings.folds} folds;"
        f" {new} decoded, {len(files) - new} known"
    )
    print(*findings.messages(manifest, competition, train, QUARANTINE), sep="\n")


def check_space(decoded: Path, prepared: Path, missing: int, images: int, settings: DictConfig) -> None:
    """Check before anything is decoded that the disks have room for what is certain to be written.

    Args:
        decoded, prepared: the cache of decoded images, and the folder to write.
        missing: images that are not in the cache yet.
        images: all of them.

    Raises:
        UserError: a disk has less free space.
    """
    row = settings.image_size**2 * LEAST_BYTES[settings.encoding]
    require_space(decoded.parent, missing * row, f"{missing} decoded images")
    shared = missing if decoded.parent == prepared.parent else 0
    purpose = f"{images} images of prepare.image_size={settings.image_size}"
    require_space(prepared.parent, (images + shared) * row, purpose)


def check_duplicates_policy(policy: str, competition: Competition) -> None:
    """Refuse to merge the labels of duplicates in a competition with one label or number per image.

    Raises:
        UserError: `policy` is merge, and an image cannot have several labels.
    """
    if policy == "merge" and competition.target.kind != "several":
        raise UserError(
            f"prepare.duplicates=merge: {competition.name} has one label per image, but merged images could have"
            " several; choose keep or drop"
        )


def split_off_bad_rows(
    train: TrainTable, unreadable: dict[str, str], competition: Competition, on_bad: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the training table into good rows and problems.

    Args:
        unreadable: {image: what is wrong with its file}.
        on_bad: error or quarantine, which is `prepare.on_bad`.

    Returns:
        The good rows, renumbered from 0; and one row per problem: image and reason.

    Raises:
        UserError: there are bad rows and `on_bad` is error, or there are no good rows; lists every problem.
    """
    problems = [
        found + ([unreadable[name]] if name in unreadable else [])
        for name, found in zip(train.rows["image"], train.rows["problems"], strict=True)
    ]
    table = train.rows.assign(problems=problems)
    is_bad = table["problems"].str.len() > 0
    bad = table.loc[is_bad, ["image", "problems"]].explode("problems").rename(columns={"problems": "reason"})
    if is_bad.all() or (on_bad == "error" and is_bad.any()):
        shown = bad.head(SHOWN_PROBLEMS)
        where = places(train.source, train.rows.loc[shown.index, "row"].tolist())
        lines = [f"{place}, {image}: {reason}" for place, (image, reason) in zip(where, shown.to_numpy(), strict=True)]
        if len(bad) > len(shown):
            lines.append(f"… and {len(bad) - len(shown)} more")
        known = f" ({', '.join(train.labels)})" if len(train.labels) <= SHOWN_LABELS else ""
        raise UserError(
            f"{train.source}: {len(bad)} problem(s)\n  "
            + "\n  ".join(lines)
            + f"\n  fix {train.source} or replace the images ({competition.download}); if a label is correct,"
            f" add it to target.labels in {competition.file}{known};"
            " prepare.on_bad=quarantine skips bad rows, if any good ones are left"
        )
    return table[~is_bad].drop(columns=["problems", "present", "missing", "row"]).reset_index(drop=True), bad


def describe_targets(targets: np.ndarray, labels: list[str]) -> dict[str, Any]:
    """Return the part of manifest.json that says how often each label occurs, or how numbers are spread."""
    if not labels:
        exact = targets.astype(float)  # sums in 32 bits would put the mean of large numbers below the lowest
        spread = {"mean": exact.mean(), "std": exact.std() or 1.0, "low": exact.min(), "high": exact.max()}
        return {"scale": {name: float(value) for name, value in spread.items()}}
    counts = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(labels))
    return {"scale": None, "images_with_label": dict(zip(labels, counts.tolist(), strict=True))}


def write_figures(
    table: pd.DataFrame, repeated: list[dict], train: TrainTable, competition: Competition, reports: Path
) -> None:
    """Replace the folder of figures; arguments as for `plots.draw_figures`."""
    # Imported here so that errors in the input are reported without waiting for Matplotlib.
    from plant_pathology.data import plots

    with atomic_folder(reports) as folder:
        plots.draw_figures(table, repeated, train, competition, folder)


def write_images(
    folder: Path,
    table: pd.DataFrame,
    targets: np.ndarray,
    decoded: DecodeCache,
    competition: Competition,
    settings: DictConfig,
) -> None:
    """Write the shards and their index.

    Args:
        table: one row per image: image, labels (tuple of texts), fold, group and pixels.
        targets: what `targets_of` returns, rows as in `table`.
        settings: `prepare:` of the config.
    """
    names = table["image"].tolist()
    places = write_shards(
        folder, names, decoded.encoded, settings.image_size, settings.encoding, settings.shard_mb * 1e6
    )
    table = table.assign(labels=table["labels"].str.join(competition.target.separator))
    write_index(folder, table.join(pd.DataFrame(places, columns=["shard", "row"])), targets)


def describe_format(competition: Competition, labels: list[str], settings: DictConfig) -> dict:
    """Return the part of manifest.json that says what the data was made for, and how its images are stored."""
    return {
        "competition": competition.name,
        "synthetic": competition.synthetic,
        "kind": competition.target.kind,
        "labels": labels,
        "separator": competition.target.separator,
        "groups": competition.groups,
        "code": file_hash(competition.code) if competition.code else None,
        "decoding": RULES,
        "image_size": settings.image_size,
        "encoding": settings.encoding,
        "quality": settings.quality,
        "shard_mb": settings.shard_mb,
        "duplicates_policy": settings.duplicates,
        "near_bits": settings.near_bits,
    }
