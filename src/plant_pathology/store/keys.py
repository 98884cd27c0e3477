"""Make the keys of objects and manifests, and check names and paths before they are stored."""

import re

from plant_pathology.core.errors import UserError

NAME = r"[a-z0-9][a-z0-9._-]*"
REF = re.compile(rf"({NAME})(?::([1-9][0-9]*))?")
MANIFEST_KEY = re.compile(rf"versions/({NAME})/([1-9][0-9]*)\.json")
OBJECT = re.compile(r"objects/([0-9a-f]{64})")


def manifest_key(name: str, number: int) -> str:
    return f"versions/{name}/{number}.json"


def object_key(sha256: str) -> str:
    return f"objects/{sha256}"


def check_name(name: str) -> None:
    """Refuse a name that points outside the store, or that is hard to type in a command.

    Raises:
        UserError: the name is refused.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(f"store.name={name!r} must be of a-z, 0-9, '.', '_', '-', and begin with a letter or digit")


def check_file(file: str) -> None:
    """Refuse a path that points outside its folder, on this or another operating system.

    Raises:
        UserError: the path is refused.
    """
    if not file.isprintable() or {"\\", ":"} & set(file) or {"", ".", ".."} & set(file.split("/")):
        raise UserError(f"{file!r} cannot be stored: write a relative path without .., colons and backslashes")
