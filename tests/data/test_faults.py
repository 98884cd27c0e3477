"""Faults that prepare meets in images, duplicates, folds and its cache, each with the outcome."""

import json
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_array

from plant_pathology.data.predictions import Predictions, write_predictions
from support import images
from support.commands import TINY, run_module
from support.damage import cut
from support.fault_table import Fault, check
from support.raw_faults import image_written, own_code, raw_of, train_images

DECODED, PREPARED = "data/decoded.sqlite", "data/prepared"
HELD: list[sqlite3.Connection] = []


def manifest(folder: Path) -> dict:
    return json.loads((folder / PREPARED / "manifest.json").read_text(encoding="utf-8"))


def prepared(folder: Path) -> None:
    done = run_module("prepare", *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr


def all_images(write) -> object:
    """Write every training image anew by a function of its path and pixels."""

    def make(folder: Path) -> None:
        for path in (raw_of(folder) / "train_images").iterdir():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            path.unlink()
            write(path, pixels)

    return make


def as_12_bits(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.mean(axis=2).astype(np.uint16) * 16).save(path, "PNG")


def as_14_bits(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.mean(axis=2).astype(np.uint16) * 64).save(path, "TIFF")


def as_16_bits(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.mean(axis=2).astype(np.uint16) * 257).save(path, "PNG")


def frames(folder: Path) -> None:
    """Add 60 frames of a video to the table: a picture that drifts by little from each to the next."""
    rng = np.random.default_rng(0)
    wide = Image.fromarray(rng.integers(0, 256, (6, 60, 3), np.uint8)).resize((4800, 480))
    rows = []
    for number in range(60):
        frame = wide.crop((2 * number, 0, 2 * number + 480, 480))
        frame.save(raw_of(folder) / f"train_images/frame{number:02d}.png", "JPEG", quality=95)
        rows.append(f"frame{number:02d}.png,scab\n")
    with (raw_of(folder) / "train.csv").open("a", encoding="utf-8") as file:
        file.writelines(rows)


def copies(folder: Path) -> None:
    """Add 40 copies of one image to the table."""
    first = train_images(folder)[0]
    for number in range(40):
        shutil.copyfile(first, first.with_name(f"copy{number:02d}.jpg"))
    with (raw_of(folder) / "train.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"copy{number:02d}.jpg,scab\n" for number in range(40))


def groups_are_bounded(folder: Path) -> None:
    found = manifest(folder)
    assert 1 < found["largest_duplicate_group"] < 40 and found["near_groups"] > 1
    assert all(group["distance"] <= 40 for group in found["duplicates"])


def drop_is_counted(folder: Path) -> None:
    found = manifest(folder)
    assert found["dropped"] + found["images"] == 124 and found["images"] > 60
    assert found["images"] == sum(found["images_in_fold"])


def bitmaps_then_others_of_the_same_size_and_time(folder: Path) -> None:
    """Prepare, then replace the pixels of an image, which keeps its name, size and time of modification."""
    path = train_images(folder)[0]
    images.color().save(path, "BMP")
    prepared(folder)
    before, pixels = path.stat(), manifest(folder)
    images.color().rotate(180).save(path, "BMP")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns) and pixels


def another_folder_under_the_same_name(folder: Path) -> None:
    """Prepare, then move another folder to the place, with files of the same names, sizes and times."""
    prepared(folder)
    raw = raw_of(folder)
    shutil.copytree(raw, raw.with_name("other"))
    raw.rename(raw.with_name("old"))
    raw.with_name("other").rename(raw)


def entries(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / DECODED) as database:
        assert database.execute(statement).rowcount > 0
    database.close()


def changed_entry(statement: str):
    def make(folder: Path) -> None:
        prepared(folder)
        entries(folder, statement)

    return make


def flipped_bit_in_a_row(folder: Path) -> None:
    prepared(folder)
    with sqlite3.connect(folder / DECODED) as database:
        (row,) = database.execute("SELECT encoded FROM decoded LIMIT 1").fetchone()
    database.close()
    data = bytearray((folder / DECODED).read_bytes())
    data[data.index(row[40:140]) + 50] ^= 1
    (folder / DECODED).write_bytes(data)


def cut_cache(folder: Path) -> None:
    prepared(folder)
    os.truncate(folder / DECODED, 20_000)


def earlier_cache(folder: Path) -> None:
    with sqlite3.connect(folder / DECODED) as database:
        database.execute("CREATE TABLE decoded (key TEXT PRIMARY KEY, pixels TEXT, encoded BLOB)")
    database.close()


def held_cache(folder: Path) -> None:
    HELD.append(sqlite3.connect(folder / DECODED))
    HELD[-1].execute("BEGIN EXCLUSIVE")


def leftovers(folder: Path) -> None:
    for name in (".prepared-abc", ".prepared-abc-old"):
        (folder / "data" / name).mkdir()
        (folder / "data" / name / "images-000000.npy").write_bytes(b"half")


def no_leftovers(folder: Path) -> None:
    assert not list((folder / "data").glob(".prepared-*"))


def column_called_group(folder: Path) -> None:
    table = pd.read_csv(raw_of(folder) / "train.csv")
    table["group"] = np.arange(len(table)) // 8
    table.to_csv(raw_of(folder) / "train.csv", index=False)


def no_group_is_split(folder: Path) -> None:
    index = pd.read_csv(folder / PREPARED / "index.csv").set_index("image")
    groups = pd.read_csv(raw_of(folder) / "train.csv").set_index("image")["group"]
    assert (index["fold"].groupby(groups).nunique() == 1).all()


def made_for_travels(folder: Path) -> None:
    found = manifest(folder)
    assert (found["competition"], found["kind"], found["separator"]) == ("sample", "several", " ")
    assert found["labels"][0] == "complex" and found["decoding"] == 2 and len(found["code"]) == 64


def reviewed(change=lambda table: None):
    """Write competitions/reviewed.csv: three images of the table, of which two get another label; and change it."""

    def make(folder: Path) -> None:
        listed = pd.read_csv(raw_of(folder) / "train.csv").set_index("image")["labels"]
        names = [path.name for path in train_images(folder)[:3]]
        table = pd.DataFrame({"image": names, "labels": [listed[name] for name in names]})
        table["suggested"] = ["rust" if "scab" in labels else "scab rust" for labels in table["labels"]]
        table["probability"], table["accept"] = 0.9, ["yes", "", "X"]
        changed = change(table)
        (folder / "competitions").mkdir(exist_ok=True)
        (table if changed is None else changed).to_csv(folder / "competitions/reviewed.csv", index=False)

    return make


def cell_changed(row: int, **cells: str):
    return reviewed(
        lambda table: table.assign(
            **{name: table[name].where(table.index != row, text) for name, text in cells.items()}
        )
    )


def labels_are_corrected_and_folds_kept(folder: Path) -> None:
    table = pd.read_csv(folder / "competitions/reviewed.csv").set_index("image")
    index = pd.read_csv(folder / PREPARED / "index.csv").set_index("image")
    accepted = table[table["accept"].notna()]
    assert index.loc[accepted.index, "labels"].tolist() == accepted["suggested"].tolist()
    listed = pd.read_csv(raw_of(folder) / "train.csv").set_index("image")["labels"]
    others = index.index.difference(accepted.index)
    assert (index.loc[others, "labels"] == listed[others]).all()
    found = manifest(folder)["relabeled"]
    assert (found["file"], found["rows"], found["accepted"]) == ("reviewed.csv", 3, 2)
    prepared(folder)  # without the file
    before = pd.read_csv(folder / PREPARED / "index.csv").set_index("image")
    assert (before["fold"] == index["fold"]).all() and manifest(folder)["relabeled"] is None


def extra(text: str, image: bytes | None = None):
    """Write data/extra/more.csv, and beside it leaf.jpg: a training image, or these bytes."""

    def make(folder: Path) -> None:
        (folder / "data/extra").mkdir(parents=True)
        (folder / "data/extra/more.csv").write_text(text, encoding="utf-8")
        content = train_images(folder)[0].read_bytes() if image is None else image
        (folder / "data/extra/leaf.jpg").write_bytes(content)

    return make


def teacher(change=lambda stored: stored):
    """Write data/extra/teacher.npz: predictions for all images of the table, or a changed copy of them."""

    def make(folder: Path) -> None:
        (folder / "data/extra").mkdir(parents=True)
        names = np.array(sorted(path.name for path in train_images(folder)))
        table = pd.read_csv(raw_of(folder) / "train.csv").set_index("image")
        true = table["labels"].str.get_dummies(" ").loc[names, LABELS].to_numpy(bool)
        stored = Predictions(names, LABELS, true, np.full(true.shape, 0.25, np.float32))
        write_predictions(folder / "data/extra/teacher.npz", change(stored))

    return make


def leaves(folder: Path) -> None:
    """Write data/extra/leaves: two pictures without labels."""
    (folder / "data/extra/leaves").mkdir(parents=True)
    for number in range(2):
        images.color().save(folder / f"data/extra/leaves/{number}.png")


def both(first, second):
    """Return what makes two faults, one after the other."""
    return lambda folder: [make(folder) for make in (first, second)]


def raw(*arguments, **more) -> Fault:
    return Fault(*arguments, start="raw", **more)


RUIN = "Pictures that decoding would ruin"
NEAR = "Duplicates"
CACHE = "The cache of decoded images"
OTHERS = "Two at once, and what was killed"
FOLDS = "Folds and labels"
CORRECTED = "Corrected labels"
RELABEL = "prepare prepare.relabel=reviewed.csv"
EXTRA, MORE = "Extra images", "prepare prepare.extra=more.csv"
TEACHER, SOFT = "Soft labels of a teacher", "prepare prepare.teacher=teacher.npz"
PSEUDO, LABEL = "Pseudo-labels", "pseudo_label pseudo_label.images=leaves"
LABELS = ["complex", "frog_eye_leaf_spot", "healthy", "powdery_mildew", "rust", "scab"]
FAULTS = [
    raw(RUIN, "12 bits in PNGs of 16", "prepare", "64 images have 16 bits per channel, and most use 14", all_images(as_12_bits)),
    raw(RUIN, "14 bits in TIFFs of 16", "prepare", "64 images have 16 bits per channel, and most use 14", all_images(as_14_bits)),
    raw(RUIN, "16 bits in PNGs", "prepare", "64 images of 32 px", all_images(as_16_bits), code=0),
    raw(RUIN, "one image of 12 bits", "prepare", "1 images have 16 bits per channel, and most use 14", image_written(lambda path: as_12_bits(path, np.asarray(images.color())))),
    raw(RUIN, "one image of 32-bit whole numbers", "prepare", "jpg: whole numbers of 32 bits or with a sign", image_written(images.REFUSED["32-bit numbers.tif"][0])),
    raw(RUIN, "one image of floats up to 65535", "prepare", "jpg: floats from 6553.5 to 58981.5", image_written(images.REFUSED["floats to 65535.tif"][0])),
    raw(RUIN, "an image is all black", "prepare", "1 images are of one color, so nothing can be seen", image_written(lambda path: Image.new("RGB", (40, 40)).save(path, "PNG")), code=0),
    raw(RUIN, "an image with its content in the transparency alone", "prepare", "1 images are of one color, so nothing can be seen", image_written(lambda path: Image.merge("LA", [Image.new("L", (32, 32)), images.scaled(255, np.uint8)]).save(path, "PNG")), code=0),
    raw(RUIN, "a JPEG with broken EXIF data", "prepare", "64 images of 32 px", image_written(images.broken_exif), code=0),
    raw(RUIN, "a DICOM file called .jpg", "prepare", "jpg: DICOM, which Pillow cannot read: open it in competitions", image_written(images.REFUSED["scan.dcm"][0])),
    raw(RUIN, "a PNG of 20,000 x 20,000 pixels", "prepare", "jpg: more than 178,956,970 pixels: save it smaller", image_written(images.huge)),
    raw(RUIN, "a named pipe called .jpg", "prepare", "jpg: not a regular file", image_written(os.mkfifo)),
    raw(RUIN, "a link to itself called .jpg", "prepare", "jpg: Too many levels of symbolic links", image_written(images.linked_to_itself)),
    raw(NEAR, "60 frames of a video", "prepare", "images are nearly those of two groups, as in a series", frames, code=0, also=groups_are_bounded),
    raw(NEAR, "60 frames of a video", "prepare prepare.duplicates=drop", "images left out as duplicates", frames, code=0, also=drop_is_counted),
    raw(NEAR, "60 frames of a video", "prepare prepare.duplicates=merge", "images merged into others", frames, code=0, also=drop_is_counted),
    raw(NEAR, "40 copies of an image", "prepare", "at most 41 images of one picture", copies, code=0),
    raw(NEAR, "40 copies of an image", "prepare", "warning: folds have", copies, code=0),
    raw(NEAR, "a limit that makes all images one group", "prepare prepare.near_bits=255", "lower prepare.near_bits"),
    raw(CACHE, "other pixels under the same name, size and time", "prepare", "1 decoded, 63 known", bitmaps_then_others_of_the_same_size_and_time, code=0),
    raw(CACHE, "another folder with files of the same names, sizes and times", "prepare", "64 decoded, 0 known", another_folder_under_the_same_name, code=0),
    raw(CACHE, "a bit flipped in an encoded image", "prepare", "decoded.sqlite is damaged: delete it", flipped_bit_in_a_row, kept=["data/prepared/*"]),
    raw(CACHE, "a perceptual hash changed", "prepare", "decoded.sqlite is damaged: delete it", changed_entry("UPDATE decoded SET phash = zeroblob(32)"), kept=["data/prepared/*"]),
    raw(CACHE, "a key changed", "prepare", "64 images of 32 px in 5 folds; 1 decoded, 63 known", changed_entry("UPDATE decoded SET key = 'x' WHERE key = (SELECT min(key) FROM decoded)"), code=0),
    raw(CACHE, "the file cut", "prepare", "decoded.sqlite: database disk image is malformed", cut_cache, kept=["data/prepared/*"]),
    raw(CACHE, "a file of earlier code", "prepare", "64 decoded, 0 known", earlier_cache, code=0),
    raw(OTHERS, "another prepare runs", "prepare", "decoded.sqlite is in use: wait until the other prepare ends", held_cache),
    raw(OTHERS, "a killed prepare left its work", "prepare", "64 images of 32 px", leftovers, code=0, also=no_leftovers),
    raw(OTHERS, "a decoding process is killed", "prepare prepare.workers=2", "the system killed a decoding process", own_code("import os\n\n\ndef open_image(path):\n    os.kill(os.getpid(), 9)\n")),
    raw(FOLDS, "a column called group", "prepare competition.groups=[group]", "64 images of 32 px", column_called_group, code=0, also=no_group_is_split),
    raw(FOLDS, "more folds than images", "prepare prepare.folds=100", "prepare.folds=100: there are 60 different images"),
    raw(FOLDS, "labels that are rarer than folds", "prepare prepare.folds=30", "labels have fewer different images than there are folds", code=0),
    raw(CORRECTED, "two rows of three are accepted", RELABEL, "2 images relabeled, of 3 in reviewed.csv", reviewed(), code=0, also=labels_are_corrected_and_folds_kept),
    raw(CORRECTED, "the file is missing", RELABEL, "prepare.relabel=reviewed.csv: competitions/reviewed.csv does not exist"),
    raw(CORRECTED, "a file elsewhere", "prepare prepare.relabel=../reports/relabel.csv", "name a file in competitions, which DVC watches"),
    raw(CORRECTED, "no column accept", RELABEL, "has no column accept, but image, labels", reviewed(lambda table: table.drop(columns="accept"))),
    raw(CORRECTED, "an image that the table does not have", RELABEL, "reviewed.csv, line 3: data/raw/sample/train.csv has no image 'leaf.jpg'", cell_changed(1, image="leaf.jpg")),
    raw(CORRECTED, "a label that does not exist", RELABEL, "reviewed.csv, line 4: suggested: unknown label 'rots'", cell_changed(2, suggested="rots")),
    raw(CORRECTED, "no label at all", RELABEL, "reviewed.csv, line 2: suggested: no label", cell_changed(0, suggested="")),
    raw(CORRECTED, "another word in accept", RELABEL, "reviewed.csv, line 2: accept is 'maybe': write yes, or no", cell_changed(0, accept="maybe")),
    raw(CORRECTED, "labels that were reviewed before the table changed", RELABEL, "today: review it again", cell_changed(0, labels="complex rust scab")),
    raw(CORRECTED, "an image twice", RELABEL, "is there before: remove one of the rows", reviewed(lambda table: pd.concat([table, table[:1]]))),
    raw(EXTRA, "the file is missing", MORE, "prepare.extra=more.csv: data/extra/more.csv does not exist"),
    raw(EXTRA, "a file elsewhere", "prepare prepare.extra=/more.csv", "name a file in data/extra, which DVC watches"),
    raw(EXTRA, "no column labels", MORE, "data/extra/more.csv has no column labels, but image, label; did you mean label?", extra("image,label\nleaf.jpg,scab\n")),
    raw(EXTRA, "a header alone", MORE, "data/extra/more.csv has a header and no rows", extra("image,labels\n")),
    raw(EXTRA, "an unknown label", MORE, "more.csv, line 2: unknown label 'mould': correct it", extra("image,labels\nleaf.jpg,mould\n")),
    raw(EXTRA, "an image that is not there", MORE, "more.csv, line 3: there is no file 'lost.jpg' in data/extra", extra("image,labels\nleaf.jpg,scab\nlost.jpg,rust\n")),
    raw(EXTRA, "a path that leads out", MORE, "more.csv, line 2: there is no file '../raw/leaf.jpg'", extra("image,labels\n../raw/leaf.jpg,scab\n")),
    raw(EXTRA, "an image twice", MORE, "more.csv, line 3: 'leaf.jpg' is there before", extra("image,labels\nleaf.jpg,scab\nleaf.jpg,scab\n")),
    raw(EXTRA, "a file that is no image", MORE, "more.csv, line 2: 'leaf.jpg': not an image that Pillow can read", extra("image,labels\nleaf.jpg,scab\n", b"text")),
    raw(EXTRA, "a picture of the table alone", MORE, "0 extra images of more.csv train and never validate; 1 left out", extra("image,labels\nleaf.jpg,scab\n"), code=0),
    raw(TEACHER, "most images are predicted", SOFT, "56 images have soft labels of teacher.npz, for model.distill", teacher(), code=0),
    raw(TEACHER, "the file is missing", SOFT, "data/extra/teacher.npz does not exist: copy reports/predictions.npz there"),
    raw(TEACHER, "a file elsewhere", "prepare prepare.teacher=../../reports/predictions.npz", "name a file in data/extra, which DVC watches"),
    raw(TEACHER, "the file is cut", SOFT, "teacher.npz is not what `select` writes to reports/predictions.npz", both(teacher(), cut("data/extra/teacher.npz"))),
    raw(TEACHER, "another archive of NumPy's", SOFT, "teacher.npz is not what `select` writes", both(teacher(), lambda folder: np.savez(folder / "data/extra/teacher.npz", x=1))),
    raw(TEACHER, "labels in another order", SOFT, "prepare.teacher=teacher.npz: it predicts 6 labels ('scab', 'rust'", teacher(lambda stored: replace(stored, labels=LABELS[::-1]))),
    raw(TEACHER, "predictions of numbers", SOFT, "prepare.teacher=teacher.npz: it predicts numbers, and this competition has 6 labels", teacher(lambda stored: replace(stored, labels=[], true=stored.outputs[:, 0], outputs=stored.outputs[:, :1]))),
    raw(TEACHER, "the likeliest labels alone", SOFT, "of 6 labels it has the likeliest alone", teacher(lambda stored: replace(stored, outputs=csr_array(stored.outputs)))),
    raw(TEACHER, "a prediction that is not a number", SOFT, "prepare.teacher=teacher.npz: a prediction is not finite", teacher(lambda stored: replace(stored, outputs=stored.outputs * np.nan))),
    raw(TEACHER, "other images", SOFT, "predicts none of the 64 images, such as", teacher(lambda stored: replace(stored, images=np.char.add("x", stored.images)))),
    Fault(PSEUDO, "no folder is named", "pseudo_label", "pseudo_label.images=null: name a folder in data/extra", start="packaged"),
    Fault(PSEUDO, "a folder elsewhere", "pseudo_label pseudo_label.images=../raw", "pseudo_label.images=../raw: name a folder in data/extra, which DVC watches", start="packaged"),
    Fault(PSEUDO, "an empty folder", LABEL, "pseudo_label.images=leaves: there is no file in data/extra/leaves", lambda folder: (folder / "data/extra/leaves").mkdir(parents=True), start="packaged"),
    Fault(PSEUDO, "no answer is certain enough", f"{LABEL} pseudo_label.sure=1", "pseudo_label.sure=1: no answer for 2 images is as certain; the surest has 0.", leaves, start="packaged"),
    Fault(PSEUDO, "files that are no images", LABEL, "unreadable, gets no labels: data/extra/leaves/0.png: not an image", both(leaves, lambda folder: [path.write_text("text") for path in (folder / "data/extra/leaves").iterdir()]), start="packaged"),
    Fault(PSEUDO, "numbers are predicted", f"{LABEL} competition.target.kind=number competition.metric=rmse competition.submit.as=number competition.target.labels=null", "predicts numbers, which have no probability", leaves, start="packaged"),
    Fault(PSEUDO, "a table that was reviewed", LABEL, "data/extra/leaves-pseudo.csv exists, and somebody may have reviewed it", both(leaves, lambda folder: (folder / "data/extra/leaves-pseudo.csv").touch()), start="packaged", kept=["data/extra/*.csv"]),
    Fault(PSEUDO, "there is no bundle", LABEL, "models/best/bundle.json does not exist: run `python -m plant_pathology.select`", leaves),
    Fault(PSEUDO, "the bundle is for other labels", f"{LABEL} competition.target.labels=[scab,rust,powdery_mildew,healthy,frog_eye_leaf_spot,complex]", "models/best was made for competition.target.labels[0]=complex, which is scab today", leaves, start="packaged"),
    raw("What it was made for", "the competition has its own code", "prepare", "64 images of 32 px", own_code("METRIC_SIGN = 1\n"), code=0, also=made_for_travels),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder):
    try:
        check(fault, fault_folder(fault.start), TINY)
    finally:
        while HELD:
            HELD.pop().close()
