"""Read the two folders that `package` wrote, and identify them by their hashes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import content_hash, folder_hash
from plant_pathology.kernel.rules import PACKAGE, metadata_of, problems_of, uploaded


@dataclass(frozen=True)
class Package:
    """The two folders that go to Kaggle, and what tells them from any others.

    Args:
        dataset, kernel: owner/slug.
        metadata: kernel-metadata.json.
        hashes: of the folders `dataset` and `submission`.
    """

    folder: Path
    dataset: str
    kernel: str
    metadata: dict[str, Any]
    hashes: dict[str, str]

    @property
    def sha256(self) -> str:
        return content_hash(self.hashes)

    @property
    def origin(self) -> dict[str, Any]:
        return self.metadata["provenance"]

    @property
    def data_files(self) -> set[str]:
        """Names of what the dataset shows on Kaggle."""
        return {path.name for path in uploaded(self.folder / "dataset")}

    @classmethod
    def read(cls, kernels: Path, competition: str) -> "Package":
        """Raises: UserError on all that Kaggle would refuse, ignore, or take for something else."""
        dataset, kernel = kernels / "dataset", kernels / "submission"
        for problem in problems_of(dataset, kernel, competition):
            raise UserError(f"{kernels}: {problem}; {PACKAGE}")
        metadata = metadata_of(kernel, "kernel")
        return cls(kernels, metadata_of(dataset, "dataset")["id"], metadata["id"], metadata, folder_hashes(kernels))


def folder_hashes(kernels: Path) -> dict[str, str]:
    """By which a rehearsal and a submission know that they are of the same bytes."""
    return {part: folder_hash(kernels / part) for part in ("dataset", "submission")}
