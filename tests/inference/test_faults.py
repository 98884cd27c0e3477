"""Faults in the form and in how tables are read, which prepare meets and the kernel would, each with the outcome."""

import os

import pytest

from support.commands import TINY
from support.fault_table import Fault, check
from support.raw_faults import raw_of, rewritten, with_rows, written

FORM, TABLE = "sample_submission.csv", "train.csv"


def linked_in_a_circle(folder):
    (raw_of(folder) / "train_images/again").symlink_to(raw_of(folder) / "train_images", target_is_directory=True)


def named_pipe(folder):
    (raw_of(folder) / TABLE).unlink()
    os.mkfifo(raw_of(folder) / TABLE)


def raw(*arguments, **more) -> Fault:
    return Fault(*arguments, start="raw", kept=["data/raw/sample/*.csv"], **more)


FILE = "How a table is stored"
ASKED = "The form for a submission"
FAULTS = [
    raw(FILE, "Latin-1", "prepare", "train.csv, line 3, is not UTF-8 text (byte 0xfc): save it as UTF-8", with_rows(TABLE, lambda row, cells: ["ü.jpg", cells[1]] if row == 2 else cells, "latin-1")),
    raw(FILE, "UTF-16", "prepare", "train.csv is UTF-16 or UTF-32 text: save it as UTF-8", rewritten(TABLE, str, "utf-16")),
    raw(FILE, "UTF-16 without a byte order mark", "prepare", "train.csv, line 1, holds NUL bytes, as UTF-16 text does", rewritten(TABLE, str, "utf-16-le")),
    raw(FILE, "zeros at its end, as after a crash", "prepare", "train.csv, line 66, holds NUL bytes", rewritten(TABLE, lambda text: text + "\0" * 500)),
    raw(FILE, "zeros alone", "prepare", "train.csv is nothing but zeros, as after a crash or on a full disk: copy it again", written(TABLE, b"\0" * 500)),
    raw(FILE, "a Parquet file", "prepare", "train.csv is a Parquet file: save it as CSV", written(TABLE, b"PAR1abc")),
    raw(FILE, "a ZIP archive", "prepare", "train.csv is a ZIP archive or an Excel table: unpack it, or save", written(TABLE, b"PK\3\4abc")),
    raw(FILE, "a web page", "prepare", "sample_submission.csv is a web page, as for those who are not logged in: download it again", written(FORM, "<!DOCTYPE html>\n<html>Log in, please</html>")),
    raw(FILE, "a pointer of Git LFS", "prepare", "train.csv is a pointer of Git LFS, not the file: get it with `git lfs pull`", written(TABLE, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
    Fault(FILE, "a named pipe", "prepare", "train.csv is no file", named_pipe, start="raw"),
    raw(FILE, "UTF-8 with a byte order mark and CRLF", "prepare", "64 images of 32 px", rewritten(TABLE, lambda text: "\ufeff" + text.replace("\n", "\r\n")), code=0),
    raw(FILE, "semicolons between the columns", "prepare", "train.csv has semicolons between its columns: save it with commas", rewritten(TABLE, lambda text: text.replace(",", ";"))),
    raw(FILE, "tabs between the columns of the form", "prepare", "sample_submission.csv has tabs between its columns", rewritten(FORM, lambda text: text.replace(",", "\t"))),
    raw(FILE, "a comma without quotes in a cell", "prepare", "train.csv, line 4, has 3 cells, and the header has 2", with_rows(TABLE, lambda row, cells: [*cells, "scab"] if row == 3 else cells)),
    raw(FILE, "a row that ends early", "prepare", "train.csv, line 4, has 1 cells, and the header has 2", with_rows(TABLE, lambda row, cells: cells[:1] if row == 3 else cells)),
    raw(FILE, "a quote that is never closed", "prepare", "train.csv, line 3, is no row of a CSV (unexpected end of data)", with_rows(TABLE, lambda row, cells: [cells[0], '"scab'] if row == 2 else cells)),
    raw(FILE, "two columns of one name", "prepare", "train.csv has two columns of one name: 'labels'", rewritten(TABLE, lambda text: "\n".join(f"{line},{line.split(',')[1]}" for line in text.splitlines()))),
    raw(FILE, "an empty file", "prepare", "train.csv is empty: correct competition.train", written(TABLE, "")),
    raw(FILE, "a header alone", "prepare", "train.csv lists no images", written(TABLE, "image,labels\n")),
    raw(FILE, "a line of 100 MB", "prepare", "no column image, but aaaaaaaa", written(TABLE, "a" * 100_000_000 + "\n1\n")),
    raw(FILE, "spaces in the header", "prepare", "has no column labels, but image, ' labels'; did you mean ' labels'?", rewritten(TABLE, lambda text: text.replace("image,labels", "image, labels"))),
    raw(FILE, "a bad label after a cell of two lines", "prepare", "line 5, ", with_rows(TABLE, lambda row, cells: [cells[0], {1: '"scab\nrust"', 3: "scabb"}.get(row, cells[1])])),
    raw(FILE, "a json that is not COCO's", "prepare competition.train.table=train.json", "train.json is neither a list of objects nor COCO's json, which has images, but pictures", written("train.json", '{"pictures": []}')),
    raw(FILE, "a json that ends early", "prepare competition.train.table=train.json", "train.json, line 2, is not JSON", written("train.json", '{"images":\n [')),
    raw(FILE, "a json list of names", "prepare competition.train.table=train.json", "train.json, entry 2 of its list, is no object", written("train.json", '[{"image": "a"}, "b"]')),
    raw(FILE, "a COCO annotation of no image", "prepare competition.train.table=train.json", "train.json, entry 2 of annotations: there is no image '9'", written("train.json", '{"images": [{"id": 1, "image": "a", "labels": "scab"}], "annotations": [{"image_id": 1}, {"image_id": 9}]}')),
    raw(FILE, "a link to the folder in which it is", "prepare", "64 images of 32 px", linked_in_a_circle, code=0),
    raw(ASKED, "ids alone", "prepare", "sample_submission.csv has no column besides image", rewritten(FORM, lambda text: "\n".join(line.split(",")[0] for line in text.splitlines()))),
    raw(ASKED, "no rows", "prepare", "sample_submission.csv has a header and no rows", written(FORM, "image,labels\n")),
    raw(ASKED, "an id twice", "prepare", "more than once in its column image, in line 2 and line 4", rewritten(FORM, lambda text: text.replace(text.splitlines()[3], text.splitlines()[1]))),
    raw(ASKED, "an empty id", "prepare", "sample_submission.csv, line 3, column image: the id is empty", with_rows(FORM, lambda row, cells: ["", cells[1]] if row == 2 else cells)),
    raw(ASKED, "ids without ending, in the form", "prepare", "8 of 8 ids of sample_submission.csv have no file", with_rows(FORM, lambda row, cells: [cells[0].removesuffix(".jpg"), cells[1]])),
    raw(ASKED, "ids in other case", "prepare", ", in other upper and lower case: correct test.files", with_rows(FORM, lambda row, cells: [cells[0].upper(), cells[1]])),
    raw(ASKED, "the columns in another order", "prepare competition.test.id=image", "64 images of 32 px", rewritten(FORM, lambda text: "\n".join(",".join(line.split(",")[::-1]) for line in text.splitlines())), code=0),
    raw(ASKED, "a column that does not exist, as a number", "prepare competition.test.id=1", "has no column 1, but image, labels"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder):
    check(fault, fault_folder(fault.start), TINY)
