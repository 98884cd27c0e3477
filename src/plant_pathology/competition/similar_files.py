"""Explain why a file is not there, by the files that are: another ending, case, or Unicode form of its name."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from plant_pathology.inference.tables import shown

IMAGES = {
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".dcm", ".npy"),
    *(".heic", ".nef", ".cr2", ".dng", ".exr", ".hdr", ".pgm", ".ppm"),
}


class SimilarFiles:
    """The files of a folder, to be asked for those that a table does not name exactly.

    Args:
        present: paths of the files.
    """

    def __init__(self, present: Iterable[str]):
        self._by_name = {reduced(path): path for path in sorted(present, reverse=True)}

    def explain(self, path: str) -> str:
        """Return `; there is <file>` with what differs, to be appended to a message; nothing if no file is similar."""
        there = self._by_name.get(reduced(path))
        if there is None:
            return ""
        if composed(path) == composed(there):
            return f"; there is {shown(there)} with its letters in another Unicode form (NFC, NFD): rename it"
        if composed(path).casefold() == composed(there).casefold():
            return f"; there is {there}, in other upper and lower case"
        return f"; there is {there}"


def reduced(path: str) -> str:
    """Return a path without what people get wrong: case, Unicode form, spaces around it, endings of images."""
    name = composed(path).casefold().strip()
    while (ending := PurePosixPath(name).suffix) in IMAGES:
        name = name.removesuffix(ending)
    return name


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
