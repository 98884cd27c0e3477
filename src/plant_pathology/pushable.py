"""What kernels/ must be before it is pushed: the client ignores keys that it does not know, and only warns of slugs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slugify import slugify

from plant_pathology.hashes import content_hash, folder_hash
from plant_pathology.stage import StageError, read_json

PACKAGE = "run `python -m plant_pathology.package`"
# Key: its type, and whether it may be left out. Left out, `enable_internet` and others would mean what nobody wrote.
KERNEL_KEYS = {
    "id": (str, False),
    "title": (str, False),
    "code_file": (str, False),
    "language": (str, False),
    "kernel_type": (str, False),
    "is_private": (bool, False),
    "enable_gpu": (bool, False),
    "enable_tpu": (bool, False),
    "enable_internet": (bool, False),
    "keywords": (list, False),
    "dataset_sources": (list, False),
    "competition_sources": (list, False),
    "kernel_sources": (list, False),
    "model_sources": (list, False),
    "docker_image": (str, True),
    "docker_image_pinning_type": (str, True),
    "machine_shape": (str, True),
    "provenance": (dict, False),
}
# Kaggle's own list: docs/kernels.md of its client.
MACHINES = (
    *("NvidiaTeslaP100", "NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaTeslaA100", "NvidiaL4", "NvidiaL4X1"),
    *("NvidiaH100", "NvidiaRtxPro6000", "TpuV38", "Tpu1VmV38", "TpuV5E8", "TpuV6E8"),
)


@dataclass(frozen=True)
class Pushable:
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
        return {path.name for path in (self.folder / "dataset").iterdir()} - {"dataset-metadata.json"}

    @classmethod
    def read(cls, kernels: Path, competition: str) -> "Pushable":
        """Raises: StageError on all that Kaggle would refuse, ignore, or take for something else."""
        path = kernels / "submission" / "kernel-metadata.json"
        metadata = read_json(path, PACKAGE)
        dataset = check_dataset(kernels / "dataset")
        for problem in kernel_problems(metadata, path.parent, dataset, competition):
            raise StageError(f"{path}: {problem}; {PACKAGE}")
        return cls(kernels, dataset, metadata["id"], metadata, hashes_of(kernels))


def hashes_of(kernels: Path) -> dict[str, str]:
    """By which a rehearsal and a submission know that they are of the same bytes."""
    return {part: folder_hash(kernels / part) for part in ("dataset", "submission")}


def kernel_problems(metadata: dict[str, Any], folder: Path, dataset: str, competition: str):
    for key in metadata.keys() - KERNEL_KEYS.keys():
        yield f"{key} is no key that the client reads: it would be ignored silently"
    for key, (kind, optional) in KERNEL_KEYS.items():
        if key not in metadata and not optional:
            yield f"{key} is missing"
        elif key in metadata and not isinstance(metadata[key], kind):
            yield f"{key}={metadata[key]!r} is no {kind.__name__}"
    if metadata["enable_internet"]:
        yield "enable_internet is true, which this competition's kernels may not be"
    if metadata["id"].partition("/")[2] != slugify(metadata["title"]):
        yield f"Kaggle makes the slug of the title: {slugify(metadata['title'])!r}, not that of id={metadata['id']}"
    if dataset not in metadata["dataset_sources"]:
        yield f"dataset_sources={metadata['dataset_sources']} lacks {dataset}, of kernels/dataset"
    if competition not in metadata["competition_sources"]:
        yield f"competition_sources={metadata['competition_sources']} lacks {competition}"
    if metadata.get("machine_shape", MACHINES[0]) not in MACHINES:
        yield f"machine_shape={metadata['machine_shape']}: choose one of {', '.join(MACHINES)}"
    if not (folder / metadata["code_file"]).is_file():
        yield f"code_file={metadata['code_file']} does not exist"


def check_dataset(folder: Path) -> str:
    """The dataset's owner/slug. Raises: StageError where its metadata or content would not arrive as they are."""
    path = folder / "dataset-metadata.json"
    metadata = read_json(path, PACKAGE)
    name, title = metadata.get("id", ""), metadata.get("title", "")
    if name.count("/") != 1 or name.partition("/")[2] != slugify(title):
        raise StageError(f"{path}: id={name} and title={title!r} do not belong together; {PACKAGE}")
    if below := [entry.name for entry in folder.iterdir() if not entry.is_file()]:
        raise StageError(f"{folder}/{below[0]} is a folder, which the client leaves out: put its files beside it")
    return name
