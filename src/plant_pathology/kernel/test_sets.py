"""Build test sets like the hidden one that Kaggle swaps in when it scores a submission.

Ids and file names are new, images have several sizes, one is unreadable, and the form has an order of its own. All else
is as in the public competition: its folders, its table of test images, the form's columns.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from PIL import Image

from plant_pathology.competition.form import read_form
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.train_table import IMAGES, read_train
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import is_hidden
from plant_pathology.core.hashes import bytes_hash
from plant_pathology.inference.tables import FIELD, fill, read_table
from plant_pathology.kernel.links import place

SIZES = ((4000, 2672), (2672, 4000), (640, 480), (97, 61))  # width and height in pixels
OTHER_SIZES = 25  # one image in so many is resized to one of SIZES


def made_test_set(raw: Path, folder: Path, images: int, competition: Competition) -> str:
    """Write a competition folder whose test images are training images under new names.

    Args:
        raw: the competition folder that the training images and the form come from.
        folder: the new competition folder.
        images: number of test images; training images are repeated when there are fewer.

    Returns:
        The id of the unreadable image.

    Raises:
        UserError: `raw` has no training images.
    """
    train = read_train(competition, raw)
    sources = sorted(set(train.rows.loc[train.rows["present"], "image"]))
    if not sources:
        raise UserError(f"{train.folder} has no images: download the competition again ({competition.download})")
    form = read_form(competition, raw)
    ids = [new_id(form.table[form.id].iloc[0], number) for number in range(images)]
    targets = write_form(raw, folder, ids, competition)
    for number, target in enumerate(targets):
        source = train.folder / sources[number % len(sources)]
        target.parent.mkdir(parents=True, exist_ok=True)
        if number % OTHER_SIZES == 1:
            place_resized(source, SIZES[number // OTHER_SIZES % len(SIZES)], target)
        else:
            place(source, target)
    content = targets[0].read_bytes()
    targets[0].unlink()
    targets[0].write_bytes(content[: len(content) // 2])
    return ids[0]


def given_test_set(images: Path, raw: Path, folder: Path, competition: Competition) -> None:
    """Write a competition folder around the test images in another folder, whose hidden files are left out.

    Raises:
        UserError: the folder `images` has no visible files, or the name of an image does not follow from its id alone.
    """
    files = (path for path in images.iterdir() if path.is_file()) if images.is_dir() else ()
    names = sorted(path.name for path in files if not is_hidden([path.name]))
    if not names:
        raise UserError(f"rehearse.test_images={images}: no such folder, or no images in it: name a folder of images")
    _, *fields_and_ends = FIELD.split(competition.test.files)
    if competition.test.table or len(fields_and_ends) != 2:
        raise UserError(
            f"rehearse.test_images: {competition.name} names an image by more than its id"
            f" (test.files={competition.test.files}): leave it out, and the rehearsal makes a test set"
        )
    ending = fields_and_ends[1]
    if strange := [name for name in names if not name.endswith(ending)]:
        raise UserError(f"rehearse.test_images={images}: {strange[0]} does not end in {ending}, as test.files says")
    targets = write_form(raw, folder, [name.removesuffix(ending) for name in names], competition)
    for name, target in zip(names, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        place(images / name, target)


def write_form(raw: Path, folder: Path, ids: Sequence[str], competition: Competition) -> list[Path]:
    """Write the form, in shuffled order, and the table of test images where there is one.

    Returns:
        The path that each id's image must have.
    """
    test, public = competition.test, read_form(competition, raw)
    form = repeated(public.table, len(ids)).assign(**{public.id: list(ids)})
    if "" in form:  # a column with the row's number
        form[""] = list(map(str, range(len(ids))))
    rows, key = form, public.id
    if test.table:
        rows = repeated(read_table(raw / test.table), len(ids))
        key = test.key_of(rows, public.id)
        rows[key] = list(ids)
    for field in {*FIELD.findall(test.files)} - {key}:
        rows[field] = [new_name(rows[field].iloc[0], number) for number in range(len(ids))]
    folder.mkdir(parents=True, exist_ok=True)
    if test.table:
        write_table(rows, raw / test.table, folder / test.table)
    order = random.Random(0).sample(range(len(ids)), len(ids))
    (folder / test.form).parent.mkdir(parents=True, exist_ok=True)
    form.iloc[order].to_csv(folder / test.form, index=False)
    return [folder / path for path in fill(test.files, rows, str(test.form))]


def repeated(table: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Return a table that repeats the first row."""
    return table.iloc[[0] * rows].reset_index(drop=True)


def write_table(rows: pd.DataFrame, public: Path, path: Path) -> None:
    """Write a table of test images in the format of the public one: CSV, or json with or without COCO's `images`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if public.suffix != ".json":
        rows.to_csv(path, index=False)
        return
    records: Any = rows.to_dict("records")
    listed = isinstance(json.loads(public.read_text(encoding="utf-8")), list)
    path.write_text(json.dumps(records if listed else {"images": records}), encoding="utf-8")


def new_id(old: str, number: int) -> str:
    """Return an id in the manner of a public one: a whole number, or a text with the same ending."""
    return str(number + 1) if old.isdecimal() else new_name(old, number)


def new_name(old: str, number: int) -> str:
    """Return a file name in the same folder and with the same ending as another one."""
    path = PurePosixPath(old)
    ending = path.suffix if path.suffix.lower() in IMAGES else ""
    return path.with_name(bytes_hash(f"hidden {number}".encode())[:16] + ending).as_posix()


def place_resized(source: Path, size: tuple[int, int], target: Path) -> None:
    try:
        with Image.open(source) as image:
            image.convert("RGB").resize(size).save(target, quality=90)
    except (OSError, ValueError):  # a damaged image, or an ending that Pillow cannot write: keep it as it is
        target.unlink(missing_ok=True)
        place(source, target)
