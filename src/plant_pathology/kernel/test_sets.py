"""A test set as Kaggle swaps it in when it scores a submission: names that nobody has seen, thousands of images of
several sizes, one of them unreadable, and a sample_submission.csv in an order of its own.
"""

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import bytes_hash

SIZES = ((4000, 2672), (2672, 4000), (640, 480), (97, 61))  # width and height in pixels
OTHER_SIZES = 25  # every so many images one is scaled to one of SIZES


def made_test_set(raw: Path, folder: Path, images: int, competition: Competition) -> str:
    """A competition folder whose test images are training images under other names.

    Returns:
        The name of the unreadable one.

    Raises:
        UserError: there are no training images.
    """
    sources = sorted(competition.train_files(raw))
    if not sources:
        raise UserError(f"{raw / competition.train_images} is empty: download the competition again (make download)")
    target = folder / competition.test_images
    target.mkdir(parents=True)
    names = []
    for number in range(images):
        source = raw / competition.train_images / sources[number % len(sources)]
        names.append(bytes_hash(f"hidden {number}".encode())[:16] + source.suffix)
        if number % OTHER_SIZES == 1:
            place_scaled(source, SIZES[number // OTHER_SIZES % len(SIZES)], target / names[-1])
        else:
            place(source, target / names[-1])
    unreadable = target / names[0]
    content = unreadable.read_bytes()
    unreadable.unlink()
    unreadable.write_bytes(content[: len(content) // 2])
    write_form(raw, folder, names, competition)
    return unreadable.name


def given_test_set(images: Path, raw: Path, folder: Path, competition: Competition) -> None:
    """A competition folder around other test images.

    Raises:
        UserError: there are no images.
    """
    names = sorted(path.name for path in images.iterdir() if path.is_file()) if images.is_dir() else []
    if not names:
        raise UserError(f"rehearse.test_images={images}: there are no images in such a folder")
    target = folder / competition.test_images
    target.mkdir(parents=True)
    for name in names:
        place(images / name, target / name)
    write_form(raw, folder, names, competition)


def write_form(raw: Path, folder: Path, names: Sequence[str], competition: Competition) -> None:
    """sample_submission.csv with the columns of the public one, in no order that a folder would give."""
    public = competition.read_sample_submission(raw)
    shuffled = random.Random(0).sample(names, len(names))
    form = pd.DataFrame({column: public[column].iloc[:1].repeat(len(names)).to_numpy() for column in public})
    form[competition.image_column] = shuffled
    form.to_csv(folder / competition.sample_submission, index=False)


def place_scaled(source: Path, size: tuple[int, int], target: Path) -> None:
    try:
        with Image.open(source) as image:
            image.convert("RGB").resize(size).save(target, quality=90)
    except OSError:  # damaged: as it is
        place(source, target)


def place(source: Path, target: Path) -> None:
    """Linked where the disk allows it."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
