"""Find the labels in the paths of images: a folder for each, or a part of the file's name."""

from collections import Counter
from pathlib import PurePosixPath


def folder_template(images: list[str], label: str, file: str) -> str | None:
    """Return the template of images that are in a folder for each label; None where they are not."""
    shared = common_folders(images)
    depths = Counter(path.count("/") for path in images)
    usual = max(depths, key=lambda each: depths[each], default=0)
    depth = usual - len(shared)
    labels = {path.split("/")[len(shared)] for path in images if path.count("/") == usual}
    if depth < 1 or not 2 <= len(labels) <= len(images) / 2:
        return None
    between = [f"{{folder_{number}}}" for number in range(1, depth)]
    return "/".join([*shared, f"{{{label}}}", *between, f"{{{file}}}"])


def common_folders(images: list[str]) -> list[str]:
    """Return the names of the folders that all images are in."""
    folders = [path.split("/")[:-1] for path in images]
    shared = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return shared


def name_template(images: list[str], label: str, file: str, shown: set[str]) -> str | None:
    """Return the template of images whose names begin or end with a label, as in cat.1.jpg; None without one.

    Args:
        shown: texts of the form, some of which may be labels.
    """
    shared, names = common_folders(images), [PurePosixPath(path) for path in images]
    endings = {name.suffix for name in names}
    if len(endings) != 1 or not names:
        return None
    possible = []
    for separator in (".", "_", "-", " "):
        parts = [name.stem.rpartition(separator) for name in names]
        for place, fields in ((0, (label, file)), (2, (file, label))):
            labels = {part[place] for part in parts}
            if "" not in labels and all(part[1] for part in parts) and 2 <= len(labels) <= len(images) / 2:
                words = not any(each.isdecimal() for each in labels)
                name = f"{{{fields[0]}}}{separator}{{{fields[1]}}}{min(endings)}"
                possible.append((bool(labels & shown), words, -len(labels), "/".join([*shared, name])))
    return max(possible, default=(None,))[-1]
