"""What kernels/ must be before it is pushed, by Kaggle's rules.

The client ignores keys that it does not know and only warns of slugs; of a title that is too long Kaggle says no more
than "internal server error". docs/submit.md names the source of each limit.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slugify import slugify

from plant_pathology.core.files import read_json

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
DATASET_KEYS = {
    "id": (str, False),
    "title": (str, False),
    "licenses": (list, False),
    "description": (str, True),
    "keywords": (list, True),
}
# Kaggle's own list: docs/kernels.md of its client.
MACHINES = (
    *("NvidiaTeslaP100", "NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaTeslaA100", "NvidiaL4", "NvidiaL4X1"),
    *("NvidiaH100", "NvidiaRtxPro6000", "TpuV38", "Tpu1VmV38", "TpuV5E8", "TpuV6E8"),
)
# Likewise: docs/datasets_metadata.md.
LICENCES = (
    *("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0"),
    *("CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-3.0-IGO", "CC-BY-NC-SA-4.0", "apache-2.0", "GPL-2.0", "GPL-3.0"),
    *("LGPL-3.0", "AGPL-3.0", "FDL-1.3", "ODbL-1.0", "DbCL-1.0", "PDDL", "ODC-BY-1.0", "CDLA-Permissive-1.0"),
    *("CDLA-Sharing-1.0", "US-Government-Works", "EU-ODP-Legal-Notice", "copyright-authors", "other", "unknown"),
)
OWNER = re.compile(r"[A-Za-z0-9_-]{3,}")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LENGTHS = {"dataset": (6, 50), "kernel": (5, 50)}  # characters of a slug, and of its title
SUFFIXES = {"notebook": ".ipynb", "script": ".py"}
SOURCE_BYTES = 10**6
DATASET_BYTES = 200 * 10**9
DATASET_FILES = 50


def metadata_of(folder: Path, kind: str) -> dict[str, Any]:
    return read_json(folder / f"{kind}-metadata.json", PACKAGE)


def uploaded(dataset: Path) -> list[Path]:
    return [path for path in dataset.iterdir() if path.name != "dataset-metadata.json"]


def problems_of(dataset: Path, kernel: Path, competition: str) -> Iterator[str]:
    """Why the two folders would not arrive at Kaggle as they are, by file and key, with what would mend it.

    A problem may hold only where those before it are mended: take the first.
    """
    data, code = metadata_of(dataset, "dataset"), metadata_of(kernel, "kernel")
    for problem in dataset_problems(data, dataset):
        yield f"dataset-metadata.json: {problem}"
    for problem in kernel_problems(code, data["id"], competition):
        yield f"kernel-metadata.json: {problem}"
    yield from file_problems(dataset)
    yield from source_problems(kernel / code["code_file"], code["kernel_type"])


def dataset_problems(metadata: dict[str, Any], folder: Path) -> Iterator[str]:
    yield from key_problems(metadata, DATASET_KEYS)
    yield from name_problems(metadata, "dataset")
    if metadata["licenses"] not in [[{"name": licence}] for licence in LICENCES]:
        yield f"licenses={metadata['licenses']}: set package.licence to one of {', '.join(LICENCES)}"


def kernel_problems(metadata: dict[str, Any], dataset: str, competition: str) -> Iterator[str]:
    yield from key_problems(metadata, KERNEL_KEYS)
    yield from name_problems(metadata, "kernel")
    if metadata["enable_internet"]:
        yield "enable_internet is true, which this competition's kernels may not be"
    if dataset not in metadata["dataset_sources"]:
        yield f"dataset_sources={metadata['dataset_sources']} lacks {dataset}, of kernels/dataset"
    if competition not in metadata["competition_sources"]:
        yield f"competition_sources={metadata['competition_sources']} lacks {competition}"
    if metadata.get("machine_shape", MACHINES[0]) not in MACHINES:
        yield f"machine_shape={metadata['machine_shape']}: choose one of {', '.join(MACHINES)}"
    if metadata["language"] != "python":
        yield f"language={metadata['language']} is not python"
    if metadata["kernel_type"] not in SUFFIXES:
        yield f"kernel_type={metadata['kernel_type']}: choose one of {', '.join(SUFFIXES)}"
    if not metadata["code_file"].endswith(SUFFIXES[metadata["kernel_type"]]):
        yield f"code_file={metadata['code_file']} is no {metadata['kernel_type']}, which kernel_type says"


def key_problems(metadata: dict[str, Any], keys: dict[str, tuple[type, bool]]) -> Iterator[str]:
    for key in metadata.keys() - keys.keys():
        yield f"{key} is no key that the client reads: it would be ignored silently"
    for key, (kind, optional) in keys.items():
        if key not in metadata and not optional:
            yield f"{key} is missing"
        elif key in metadata and not isinstance(metadata[key], kind):
            yield f"{key}={metadata[key]!r} is no {kind.__name__}"


def name_problems(metadata: dict[str, Any], kind: str) -> Iterator[str]:
    """Of id and title; Kaggle makes an address of each, and they must be one."""
    title, (owner, _, slug), (low, high) = metadata["title"], metadata["id"].rpartition("/"), LENGTHS[kind]
    if not OWNER.fullmatch(owner):
        yield f"id={metadata['id']}: set package.owner to your Kaggle user name, as in kaggle.com/<name>"
    if not SLUG.fullmatch(slug) or not low <= len(slug) <= high:
        yield (
            f"id={metadata['id']}: set package.{kind} to {low} to {high} lower-case letters and digits, with single"
            " hyphens between"
        )
    if slug != slugify(title):
        yield f"Kaggle makes the slug of the title: {slugify(title)!r}, not that of id={metadata['id']}"
    if not low <= len(title) <= high:
        yield f"title={title!r} has {len(title)} characters, and must have {low} to {high}"


def file_problems(dataset: Path) -> Iterator[str]:
    files = uploaded(dataset)
    if below := [path.name for path in files if not path.is_file()]:
        yield f"dataset/{below[0]} is a folder, which the client leaves out: put its files beside it"
    if len(files) > DATASET_FILES:
        yield f"dataset/ has {len(files)} files, and may have {DATASET_FILES}: lower select.networks"
    size = sum(path.stat().st_size for path in files)
    if size > DATASET_BYTES:
        yield f"dataset/ has {size / 1e9:.0f} GB, and may have {DATASET_BYTES / 1e9:.0f}: lower select.megabytes"


def source_problems(path: Path, kernel_type: str) -> Iterator[str]:
    if not path.is_file():
        yield f"kernel-metadata.json: code_file={path.name} does not exist"
    if path.stat().st_size > SOURCE_BYTES:
        yield (
            f"{path.name} has {path.stat().st_size} bytes, and may have {SOURCE_BYTES}: what is large belongs into the"
            " dataset"
        )
    if kernel_type == "notebook" and not has_kernelspec(path):
        yield f"{path.name} is no notebook with metadata.kernelspec.name, by which Kaggle starts it: save it in Jupyter"


def has_kernelspec(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text())["metadata"]["kernelspec"]["name"])
    except (ValueError, KeyError, TypeError):
        return False
