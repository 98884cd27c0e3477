"""Faults in labels, in the names of files and in a competition's config and code, each with the outcome."""

import unicodedata

import pytest

from support.commands import TINY
from support.fault_table import Fault, check
from support.raw_faults import own_code, raw_of, train_images, with_rows

TABLE = "train.csv"
ONE = "prepare competition.target={kind:one,column:labels,labels:null} competition.metric=accuracy competition.submit={as:label}"
NUMBER = "prepare competition.target={kind:number,column:labels,labels:null} competition.metric=rmse competition.submit={as:number}"


def labels(change) -> object:
    """Change each row's label; `change` gets the number of the row, from 1."""
    return with_rows(TABLE, lambda row, cells: [cells[0], change(row)])


def numbers(last: str) -> object:
    """Make labels numbers, the last of the first ten rows another text; the form too."""

    def make(folder):
        labels(lambda row: last if row == 10 else f"{row}.5")(folder)
        with_rows("sample_submission.csv", lambda row, cells: [cells[0], "0.5"])(folder)

    return make


def decomposed_name(folder):
    """Call an image ä.jpg in the table and in the folder, in two Unicode forms."""
    path = train_images(folder)[0]
    path.rename(path.with_name(unicodedata.normalize("NFD", "ä.jpg")))
    with_rows(TABLE, lambda row, cells: ["ä.jpg" if cells[0] == path.name else cells[0], cells[1]])(folder)


def upper_case_name(folder):
    path = train_images(folder)[0]
    path.rename(path.with_suffix(".JPG"))


def one_hot(third: str):
    """Write a table and a form with a column for each of two labels; the third row's first cell is another."""

    def make(folder):
        names = [path.name for path in train_images(folder)]
        rows = [f"{name},{number % 2},{1 - number % 2}\n" for number, name in enumerate(names)]
        rows[2] = f"{names[2]},{third},0\n"
        (raw_of(folder) / TABLE).write_text("image,a,b\n" + "".join(rows))
        form = raw_of(folder) / "sample_submission.csv"
        tests = [line.split(",")[0] for line in form.read_text().splitlines()[1:]]
        form.write_text("image,a,b\n" + "".join(f"{name},0,0\n" for name in tests))

    return make


def form_of_other_labels(folder):
    """Give the form a column of which the table has none."""
    form = raw_of(folder) / "sample_submission.csv"
    form.write_text(form.read_text().replace("image,labels", "image,rose"))


HOT = "prepare competition.target={kind:several,column:null,labels:null} competition.metric=roc_auc competition.submit={as:columns}"


def raw(*arguments, **more) -> Fault:
    return Fault(*arguments, start="raw", **more)


FILES = "Names of images"
LABELS = "Labels and numbers"
KEYS = "Keys of a competition's file"
CODE = "A competition's own code"
FAULTS = [
    raw(FILES, "ids without ending", "prepare", "train.csv: none of its 64 images is there, first line 2: train.files=train_images/{image} makes it", with_rows(TABLE, lambda row, cells: [cells[0].removesuffix(".jpg"), cells[1]])),
    raw(FILES, "ids with the ending twice", "prepare \"competition.train.files='train_images/{image}.jpg'\"", ".jpg: correct competition.train.files"),
    raw(FILES, "a name in another Unicode form", "prepare", "with its letters in another Unicode form (NFC, NFD): rename it", decomposed_name),
    raw(FILES, "a name in upper case", "prepare", ".JPG, in other upper and lower case", upper_case_name),
    raw(FILES, "a name that begins with a dot", "prepare", "begins with a dot, and hidden files are left out: rename it", with_rows(TABLE, lambda row, cells: [f".{cells[0]}" if row == 2 else cells[0], cells[1]])),
    raw(FILES, "no folder of the competition", "prepare paths.raw=nowhere", "nowhere does not exist: run `make repro` (sample)"),
    raw(FILES, "an empty name", "prepare", "line 3, : the name of the image is empty", with_rows(TABLE, lambda row, cells: ["", cells[1]] if row == 2 else cells)),
    raw(LABELS, "labels that differ in case", ONE, "'Rose' (line 3) and 'rose' (line 2) look like one label", labels(lambda row: "Rose" if row == 2 else "rose" if row % 2 else "lily")),
    raw(LABELS, "a space after a label", ONE, "'rose' (line 2) and 'rose ' (line 3) look like one label", labels(lambda row: "rose " if row == 2 else "rose" if row % 2 else "lily")),
    raw(LABELS, "a label in two Unicode forms", ONE, "look like one label: correct the table", labels(lambda row: unicodedata.normalize("NFD", "räude") if row == 2 else "räude" if row % 2 else "lily")),
    raw(LABELS, "a sign without width in a label", ONE, "'rose' (line 2) and 'rose\\u200b' (line 3) look like one label", labels(lambda row: "rose\u200b" if row == 2 else "rose" if row % 2 else "lily")),
    raw(LABELS, "1 in full width", ONE, "look like one label: correct the table", labels(lambda row: "\uff11" if row == 2 else str(row % 2))),
    raw(LABELS, "numbers of 5,000 digits as grades", ONE.replace("kind:one", "kind:ordinal"), "is unknown: list target.labels from low to high", labels(lambda row: str(row % 2) * 5000)),
    raw(LABELS, "one probability of three labels", ONE.replace("accuracy", "roc_auc").replace("as:label", "as:probability"), "submit.as=probability asks for the probability of one label, and there are 3", labels(lambda row: "abc"[row % 3])),
    raw(LABELS, "one number for all images", NUMBER, "train.csv: all images have the same number, '3': correct target.column", labels(lambda row: "3")),
    raw(LABELS, "3 and 3.0", ONE, "'3' (line 2) and '3.0' (line 3) look like one label", labels(lambda row: "3.0" if row == 2 else "3" if row % 2 else "1")),
    raw(LABELS, "labels that differ in case, listed", ONE.replace("labels:null", "labels:[rose,Rose,lily]"), "64 images of 32 px", labels(lambda row: "Rose" if row == 2 else "rose" if row % 2 else "lily"), code=0),
    raw(LABELS, "labels called NA and nan", ONE, "warning: NA, nan: taken as a label", labels(lambda row: "NA" if row % 2 else "nan"), code=0),
    raw(LABELS, "one label only", ONE, "train.csv: all images have the same label, 'scab': correct target.column", labels(lambda row: "scab")),
    raw(LABELS, "no label at all", ONE, "train.csv: all images have no label: correct target.column", labels(lambda row: "")),
    raw(LABELS, "an empty label", ONE, "jpg: no label", labels(lambda row: "" if row == 2 else "ab"[row % 2])),
    raw(LABELS, "two separators in a row", "prepare", "an empty label beside a separator", labels(lambda row: "scab  rust" if row == 2 else "scab")),
    raw(LABELS, "a label that contains the separator", ONE.replace("as:label", "as:ranking").replace("accuracy", "map_at_2"), "the label 'new whale' contains submit.separator=' '", labels(lambda row: "new whale" if row % 2 else "old")),
    raw(LABELS, "grades such as --1", ONE.replace("kind:one", "kind:ordinal"), "is unknown: list target.labels from low to high", labels(lambda row: "--1" if row % 2 else "2")),
    raw(LABELS, "a comma for the decimal point", NUMBER, "'3,5' is not a number, such as 0.5", numbers('"3,5"')),
    raw(LABELS, "the number inf", NUMBER, "'inf' is not a number", numbers("inf")),
    raw(LABELS, "the number 1e16, too large for the network", NUMBER, "'1e16' is not a number", numbers("1e16")),
    raw(LABELS, "the number 1_000", NUMBER, "'1_000' is not a number", numbers("1_000")),
    raw(LABELS, "neither a column nor a label of the form", HOT, "target.column is missing, and data/raw/sample/train.csv has no column of the form", form_of_other_labels),
    raw(LABELS, "2 in a column of 0 and 1", HOT, "train.csv, line 4, column a: '2' is neither 0 nor 1", one_hot("2")),
    raw(LABELS, "text in a column of 0 and 1", HOT, "train.csv, line 4, column a: 'yes' is neither 0 nor 1", one_hot("yes")),
    raw(LABELS, "an empty cell in a column of 0 and 1", HOT, "train.csv, line 4, column a: '' is neither 0 nor 1", one_hot("")),
    raw(KEYS, "an empty separator", "prepare competition.target.separator=''", "competition.target.separator='': choose text"),
    raw(KEYS, "an empty separator in the submission", "prepare competition.submit.separator=''", "competition.submit.separator='': choose text"),
    raw(KEYS, "a path without a column", "prepare competition.train.files=train_images/a.jpg", "train.files=train_images/a.jpg names one file: put the column"),
    raw(KEYS, "half a brace", "prepare 'competition.test.files=\"test_images/{image\"'", "has a brace without its other one"),
    raw(KEYS, "a path out of the folder", "prepare \"competition.test.files='../{image}'\"", "test.files=../{image} leads out of the competition's folder"),
    raw(KEYS, "a key of no table", "prepare competition.test.key=id", "test.key is a column of test.table, which is not set"),
    raw(KEYS, "limits in the wrong order", NUMBER.replace("as:number", "as:number,low:5,high:1"), "submit.low=5 is not below submit.high=1"),
    raw(KEYS, "a limit for labels", "prepare competition.submit.low=0", "submit.low and submit.high are only for submit.as=number"),
    raw(KEYS, "no label in the list", "prepare competition.target.labels=[]", "target.labels is an empty list"),
    raw(KEYS, "a group named twice", "prepare competition.groups=[image,image]", "groups names a column twice"),
    raw(KEYS, "the label as a group", "prepare competition.groups=[labels]", "groups names labels, which is target.column"),
    raw(KEYS, "the best 0 labels", ONE.replace("as:label", "as:ranking").replace("accuracy", "map_at_0"), "competition.metric=map_at_0: choose one of"),
    raw(CODE, "it does not compile", "prepare", "sample.py, line 2: import fails with SyntaxError", own_code("a = 1\ndef open_image(path:\n")),
    raw(CODE, "its read_train fails", "prepare", "sample.py, line 2: read_train fails with KeyError: 'x'", own_code("def read_train(folder):\n    return {}['x']\n")),
    raw(CODE, "its read_train returns numbers", "prepare", "the column labels of read_train holds '3', which is int", own_code("import pandas as pd\n\n\ndef read_train(folder):\n    return pd.DataFrame({'image': ['a'], 'labels': [3]}, dtype=object)\n")),
    raw(CODE, "its read_train returns a list", "prepare", "sample.py: read_train returns list: return a pandas.DataFrame", own_code("def read_train(folder):\n    return []\n")),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder):
    check(fault, fault_folder(fault.start), TINY)
