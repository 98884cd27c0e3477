"""The steps of `prepare`: turn a competition's raw files into shards of small images, an index, and figures.

The same input gives the same bytes with any number of workers. A restart continues after the last image decoded, and
only new images are decoded. All bad rows and image files are reported in one list.
"""

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, write_json
from plant_pathology.data import duplicates
from plant_pathology.data.decode_cache import DecodeCache, open_decode_cache
from plant_pathology.data.folds import assign_folds
from plant_pathology.data.index import write_index
from plant_pathology.data.shards import write_shards

QUARANTINE = "quarantine.csv"


def prepare(cfg: DictConfig) -> None:
    """Write data/prepared and reports/data, as `prepare:` in the config says, and print a summary.

    Raises:
        UserError: the input has bad rows or files and `prepare.on_bad` is error, or a setting does not fit the data.
    """
    competition, settings = Competition.from_config(cfg), cfg.prepare
    check_duplicates_policy(settings.duplicates, competition)
    raw, prepared, reports = Path(cfg.paths.raw), Path(cfg.paths.prepared), Path(cfg.paths.reports) / "data"
    images = raw / competition.train_images
    table = competition.read_train(raw)
    files = competition.train_files(raw)
    listed, unlisted = sorted(files & set(table["image"])), sorted(files - set(table["image"]))
    with open_decode_cache(
        Path(cfg.paths.decoded), settings.image_size, settings.encoding, settings.quality
    ) as decoded:
        new, unreadable = decoded.decode_missing([images / name for name in listed], settings.workers)
        good, bad = split_off_bad_rows(table, unreadable, raw, competition, settings.on_bad)
        good = good.join(decoded.facts(good["image"]))
        good["group"], repeated = duplicates.find_duplicates(good, settings.near_bits)
        kept = duplicates.apply_policy(good, settings.duplicates)
        targets = competition.one_hot(kept["labels"])
        kept["fold"] = assign_folds(targets.to_numpy(), kept["group"], settings.folds, cfg.seed)
        write_figures(good, repeated, images, competition, reports)
        counts = {
            "images": len(kept),
            "images_with_label": dict(zip(competition.labels, targets.sum().tolist(), strict=True)),
            "images_in_fold": kept["fold"].value_counts().sort_index().tolist(),
            "duplicates_policy": settings.duplicates,
            "duplicates": repeated,
            "quarantined": len(table) - len(good),
            "unlisted": unlisted,
        }
        with atomic_folder(prepared) as folder:
            write_images(folder, kept, targets, decoded, competition, settings)
            if len(bad):
                bad.to_csv(folder / QUARANTINE, index=False)
            write_json(folder / "manifest.json", describe_format(competition, settings) | counts)
        decoded.prune()
    print(
        f"{prepared}: {len(kept)} images of {settings.image_size} px in {settings.folds} folds;"
        f" {new} decoded, {len(listed) - new} known"
    )
    print_warnings(counts, competition)


def check_duplicates_policy(policy: str, competition: Competition) -> None:
    """Refuse to merge the labels of duplicates in a competition with one label per image.

    Raises:
        UserError: `policy` is merge, and the competition is not multilabel.
    """
    if policy == "merge" and not competition.multilabel:
        raise UserError(
            f"prepare.duplicates=merge: {competition.name} has one label per image, but merged images could have"
            " several; choose keep or drop"
        )


def split_off_bad_rows(
    table: pd.DataFrame, unreadable: dict[str, str], raw: Path, competition: Competition, on_bad: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the training table into good rows and problems.

    Args:
        table: image, labels and problems (list of messages), as `Competition.read_train` returns it.
        unreadable: {file name: what is wrong with the image}.
        raw: folder of the competition's files.
        on_bad: error or quarantine, which is `prepare.on_bad`.

    Returns:
        The good rows, renumbered from 0; and one row per problem: image and reason.

    Raises:
        UserError: there are bad rows and `on_bad` is error, or there are no good rows; lists every problem.
    """
    problems = [
        found + ([unreadable[name]] if name in unreadable else [])
        for name, found in zip(table["image"], table["problems"], strict=True)
    ]
    table = table.assign(problems=problems)
    is_bad = table["problems"].str.len() > 0
    bad = table.loc[is_bad, ["image", "problems"]].explode("problems").rename(columns={"problems": "reason"})
    if is_bad.all() or (on_bad == "error" and is_bad.any()):
        lines = [f"line {row + 2}, {image}: {reason}" for row, image, reason in bad.itertuples()]
        path = raw / competition.train_csv
        raise UserError(
            f"{path}: {len(lines)} problem(s)\n  "
            + "\n  ".join(lines)
            + f"\nfix {path} or replace the images (make download); if a label is correct, add it to competition.labels"
            f" in conf/competition/{competition.name}.yaml ({', '.join(competition.labels)});"
            " prepare.on_bad=quarantine skips bad rows, if any good ones are left"
        )
    return table[~is_bad].drop(columns="problems").reset_index(drop=True), bad


def write_figures(
    table: pd.DataFrame, repeated: list[dict], images: Path, competition: Competition, reports: Path
) -> None:
    """Replace the folder of figures; arguments as for `plots.draw_figures`."""
    # Imported here so that errors in the input are reported without waiting for Matplotlib.
    from plant_pathology.data import plots

    with atomic_folder(reports) as folder:
        plots.draw_figures(table, repeated, images, competition, folder)


def write_images(
    folder: Path,
    table: pd.DataFrame,
    targets: pd.DataFrame,
    decoded: DecodeCache,
    competition: Competition,
    settings: DictConfig,
) -> None:
    """Write the shards and their index.

    Args:
        table: one row per image: image, labels (list of names), fold, group and pixels.
        targets: one column is_<label> per label, rows as in `table`.
        settings: `prepare:` of the config.
    """
    names = table["image"].tolist()
    places = write_shards(
        folder, names, decoded.encoded, settings.image_size, settings.encoding, settings.shard_mb * 1e6
    )
    table = table.assign(labels=table["labels"].str.join(competition.separator))
    table = table.join([targets, pd.DataFrame(places, columns=["shard", "row"])])
    write_index(folder, table, competition.labels)


def describe_format(competition: Competition, settings: DictConfig) -> dict:
    """Return the part of manifest.json that describes the competition and how its images are stored."""
    return {
        "competition": competition.name,
        "synthetic": competition.synthetic,
        "multilabel": competition.multilabel,
        "labels": competition.labels,
        "image_size": settings.image_size,
        "encoding": settings.encoding,
        "quality": settings.quality,
        "shard_mb": settings.shard_mb,
    }


def print_warnings(counts: dict, competition: Competition) -> None:
    """Print what is unusual in the data: duplicates, quarantined rows and files that the table does not list.

    Args:
        counts: the part of manifest.json about the images.
    """
    repeated, unlisted = counts["duplicates"], counts["unlisted"]
    contradictory = sum(group["contradictory"] for group in repeated)
    print(
        f"{len(repeated)} pictures more than once, {contradictory} of them with contradictory labels:"
        f" prepare.duplicates={counts['duplicates_policy']}; manifest.json names them"
    )
    if counts["quarantined"]:
        print(f"{counts['quarantined']} bad rows of {competition.train_csv} skipped; {QUARANTINE} lists the reasons")
    if unlisted:
        few = ", ".join(unlisted[:3]) + (", …" if len(unlisted) > 3 else "")
        print(f"{len(unlisted)} files of {competition.train_images}/ ignored, not in {competition.train_csv}: {few}")
