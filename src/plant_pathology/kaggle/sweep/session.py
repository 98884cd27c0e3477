"""Keep what is known of a session on disk: its kernel, its runs, and what they began from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plant_pathology.core.files import read_json, write_json
from plant_pathology.kaggle.journal import Journal
from plant_pathology.kernel.package import Package

FOLDER, SESSION = ".kaggle", "session.json"


@dataclass
class Session:
    """One kernel with a queue of runs.

    Args:
        folder: below runs/.kaggle.
        kernel: owner/slug.
        runs: names of its runs, longest first.
        metadata: content of its kernel-metadata.json.
    """

    folder: Path
    kernel: str
    runs: list[str]
    metadata: dict[str, Any]
    begins: dict[str, str]  # latest checkpoint of each run before the session
    shown: int = 0  # lines of its log
    absent_since: float | None = None
    state: str = ""

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "journal.json", self.folder.name)

    @property
    def package(self) -> Package:
        return Package(self.folder, "", self.kernel, self.metadata, {})

    @classmethod
    def read(cls, folder: Path) -> "Session | None":
        """Return the session in a folder; None where its output has been collected."""
        noted = read_json(folder / SESSION, f"delete {folder}")
        if noted["closed"]:
            return None
        metadata = read_json(folder / "submission" / "kernel-metadata.json", f"delete {folder}")
        return cls(folder, noted["kernel"], noted["runs"], metadata, noted["begins"])

    def write(self, closed: str | None = None) -> None:
        """Write session.json.

        Args:
            closed: the state in which it was collected.
        """
        noted = {"kernel": self.kernel, "runs": self.runs, "begins": self.begins, "closed": closed}
        write_json(self.folder / SESSION, noted)
