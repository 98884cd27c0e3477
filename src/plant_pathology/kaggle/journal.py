"""Record on disk which steps of a submission are done, so that a restart continues after the last one."""

from pathlib import Path
from typing import Any

from plant_pathology.core.files import read_json, write_json

AGAIN = "start again, it continues"


class Journal:
    """The steps done for one submission, in a file that holds those of all submissions by their hash.

    Args:
        path: the file.
        sha256: of what is submitted.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self.path, self.sha256 = path, sha256
        self.all: dict[str, dict[str, Any]] = read_json(path, "delete it") if path.exists() else {}
        self.noted = self.all.setdefault(sha256, {})

    def get(self, key: str) -> Any:
        """Return the note; None where there is none."""
        return self.noted.get(key)

    def get_of_all(self, key: str) -> list[Any]:
        return [noted[key] for noted in self.all.values() if key in noted]

    def note(self, **done: Any) -> None:
        """Add notes and write the file at once."""
        self.noted |= done
        write_json(self.path, self.all)

    def forget(self, *keys: str) -> None:
        """Remove notes and write the file at once."""
        for key in keys:
            self.noted.pop(key, None)
        write_json(self.path, self.all)
