"""Read the two folders that the `package` command wrote, and identify them by their hashes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.core.hashes import content_hash, file_hash, folder_hash
from plant_pathology.core.sealed import check_hashes, trusted
from plant_pathology.inference.bundle import SPEC
from plant_pathology.kernel.rules import REMEDY, problems_of, read_metadata, uploaded_files

REHEARSAL = "rehearsal.json"  # in reports/
SUBMITTED = Path("rehearsal") / "submission.csv"  # in reports/, what the rehearsed kernel wrote


@dataclass(frozen=True)
class Package:
    """The two folders that go to Kaggle, checked against Kaggle's rules.

    Args:
        folder: kernels/, with the subfolders dataset and submission.
        dataset, kernel: owner/slug of each.
        metadata: content of kernel-metadata.json.
        hashes: SHA-256 by subfolder.
    """

    folder: Path
    dataset: str
    kernel: str
    metadata: dict[str, Any]
    hashes: dict[str, str]

    @property
    def sha256(self) -> str:
        """One hash for both folders."""
        return content_hash(self.hashes)

    @property
    def origin(self) -> dict[str, Any]:
        """Commit, data version, score and runs, as `package` recorded them."""
        return self.metadata["provenance"]

    @property
    def bundle(self) -> dict[str, Any]:
        """Content of the dataset's bundle.json."""
        return read_json(self.folder / "dataset" / "bundle.json", REMEDY)

    @property
    def data_files(self) -> set[str]:
        """Names of the files that the dataset has on Kaggle."""
        return {path.name for path in uploaded_files(self.folder / "dataset")}

    @property
    def altered(self) -> list[Path]:
        """Files of the kernel that are not as `package` wrote them: edited since, or damaged."""
        folder, written = self.folder / "submission", self.metadata["hashes"]
        now = submission_hashes(folder, self.metadata)
        return [folder / name for name, sha256 in now.items() if written.get(name) != sha256]

    @classmethod
    def read(cls, kernels: Path, competition: str) -> "Package":
        """Read and check kernels/.

        Raises:
            UserError: Kaggle would refuse, ignore or misread something in it.
        """
        dataset, kernel = kernels / "dataset", kernels / "submission"
        for problem in problems_of(dataset, kernel, competition):
            raise UserError(f"{kernels}: {problem}; {REMEDY}")
        metadata = read_metadata(kernel, "kernel")
        return cls(kernels, read_metadata(dataset, "dataset")["id"], metadata["id"], metadata, folder_hashes(kernels))

    def check_made_from(self, bundle: Path) -> None:
        """Check that the dataset is what `package` wrote, and that it holds this bundle.

        Raises:
            DamagedError: a file of the dataset is missing or has other bytes.
            UserError: earlier code packaged it, or it was packaged from another bundle.
        """
        files = self.origin.get("dataset")
        if not isinstance(files, dict) or "hashes" not in self.metadata:
            raise UserError(f"{self.folder} was packaged by an earlier version of the code: {REMEDY}")
        check_hashes(self.folder / "dataset", files, REMEDY)
        if files.get(SPEC) != file_hash(bundle / SPEC):
            raise UserError(f"{self.folder} was packaged from another bundle than {bundle}: {REMEDY}")


def submission_hashes(folder: Path, metadata: dict[str, Any]) -> dict[str, str]:
    """Hash both files of a kernel's folder; of its metadata all but these hashes."""
    code_file, hashed = metadata["code_file"], {key: value for key, value in metadata.items() if key != "hashes"}
    return {code_file: file_hash(folder / code_file), "kernel-metadata.json": content_hash(hashed)}


def read_rehearsal(path: Path) -> dict[str, Any]:
    """Return the content of rehearsal.json.

    Raises:
        DamagedError: it does not exist, or is not what `rehearse` wrote.
    """
    return trusted(path, "run `python -m plant_pathology.rehearse`")


def score_told(rehearsal: dict[str, Any]) -> str | None:
    """Return the score of rehearsal.json in words; None where no solution was given."""
    if (scored := rehearsal.get("scored")) is None:
        return None
    value = "has no value" if rehearsal["score"] is None else f"{rehearsal['score']:.4f}"
    told = f"{scored['metric']} {value} on {scored['images']} images"
    if seen := scored["training_images"]:
        told += f", too high a score: {seen} of them are training images"
    return told


def folder_hashes(kernels: Path) -> dict[str, str]:
    """Hash both folders, so that a submission can check that its bytes are those that were rehearsed."""
    return {part: folder_hash(kernels / part) for part in ("dataset", "submission")}
