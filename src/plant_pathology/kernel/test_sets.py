"""Build test sets like the hidden one that Kaggle swaps in when it scores a submission.

File names are new, images have several sizes, one is unreadable, and sample_submission.csv has an order of its own.
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
OTHER_SIZES = 25  # one image in so many is resized to one of SIZES


def made_test_set(raw: Path, folder: Path, images: int, competition: Competition) -> str:
    """Write a competition folder whose test images are training images under new names.

    Args:
        raw: the competition folder that the training images and sample_submission.csv come from.
        folder: the new competition folder.
        images: number of test images; training images are repeated when there are fewer.

    Returns:
        The name of the unreadable image.

    Raises:
        UserError: `raw` has no training images.
    """
    sources = sorted(competition.train_files(raw))
    if not sources:
        raise UserError(
            f"{raw / competition.train_images} has no images: download the competition again (make download)"
        )
    target = folder / competition.test_images
    target.mkdir(parents=True)
    names = []
    for number in range(images):
        source = raw / competition.train_images / sources[number % len(sources)]
        names.append(bytes_hash(f"hidden {number}".encode())[:16] + source.suffix)
        if number % OTHER_SIZES == 1:
            place_resized(source, SIZES[number // OTHER_SIZES % len(SIZES)], target / names[-1])
        else:
            place(source, target / names[-1])
    unreadable = target / names[0]
    content = unreadable.read_bytes()
    unreadable.unlink()
    unreadable.write_bytes(content[: len(content) // 2])
    write_sample_submission(raw, folder, names, competition)
    return unreadable.name


def given_test_set(images: Path, raw: Path, folder: Path, competition: Competition) -> None:
    """Write a competition folder around the test images in another folder.

    Raises:
        UserError: the folder `images` has no files.
    """
    names = sorted(path.name for path in images.iterdir() if path.is_file()) if images.is_dir() else []
    if not names:
        raise UserError(f"rehearse.test_images={images}: no such folder, or no images in it: name a folder of images")
    target = folder / competition.test_images
    target.mkdir(parents=True)
    for name in names:
        place(images / name, target / name)
    write_sample_submission(raw, folder, names, competition)


def write_sample_submission(raw: Path, folder: Path, names: Sequence[str], competition: Competition) -> None:
    """Write sample_submission.csv with the columns of the public one and the images in shuffled order."""
    public = competition.read_sample_submission(raw)
    shuffled = random.Random(0).sample(names, len(names))
    form = pd.DataFrame({column: public[column].iloc[:1].repeat(len(names)).to_numpy() for column in public})
    form[competition.image_column] = shuffled
    form.to_csv(folder / competition.sample_submission, index=False)


def place_resized(source: Path, size: tuple[int, int], target: Path) -> None:
    try:
        with Image.open(source) as image:
            image.convert("RGB").resize(size).save(target, quality=90)
    except OSError:  # a damaged image: keep it as it is
        place(source, target)


def place(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system does not allow that."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
