"""Check a dataset folder and a kernel folder against Kaggle's rules before they are pushed.

The client ignores unknown keys and only warns about slugs; Kaggle answers a title that is too long with "internal
server error". docs/submit.md names the source of each limit.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slugify import slugify

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import is_hidden, read_json
from plant_pathology.core.schema import GPUS

Keys = dict[str, tuple[type, bool]]
REMEDY = "run `python -m plant_pathology.package`"
# Type of each key, and whether it is optional. Most are required, since the client's defaults are not ours: without
# `enable_internet` the internet is on.
KERNEL_KEYS: Keys = {
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
    "hashes": (dict, True),
}
DATASET_KEYS: Keys = {
    "id": (str, False),
    "title": (str, False),
    "licenses": (list, False),
    "description": (str, True),
    "keywords": (list, True),
}
# Source: docs/datasets_metadata.md of Kaggle's client.
LICENCES = (
    *("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0"),
    *("CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-3.0-IGO", "CC-BY-NC-SA-4.0", "apache-2.0", "GPL-2.0", "GPL-3.0"),
    *("LGPL-3.0", "AGPL-3.0", "FDL-1.3", "ODbL-1.0", "DbCL-1.0", "PDDL", "ODC-BY-1.0", "CDLA-Permissive-1.0"),
    *("CDLA-Sharing-1.0", "US-Government-Works", "EU-ODP-Legal-Notice", "copyright-authors", "other", "unknown"),
)
OWNER = re.compile(r"[A-Za-z0-9_-]{3,}")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_SLUG = 50
LENGTHS = {"dataset": (6, MAX_SLUG), "kernel": (5, MAX_SLUG)}  # characters of a slug and of its title
SUFFIXES = {"notebook": ".ipynb", "script": ".py"}
SOURCE_BYTES = 10**6
DATASET_BYTES = 200 * 10**9
DATASET_FILES = 50


def read_metadata(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / f"{kind}-metadata.json"
    content = read_json(path, REMEDY)
    if not isinstance(content, dict):
        raise UserError(f"{path} is no object in JSON: {REMEDY}")
    return content


def uploaded_files(dataset: Path) -> list[Path]:
    return [path for path in dataset.iterdir() if path.name != "dataset-metadata.json" and not is_hidden([path.name])]


def problems_of(dataset: Path, kernel: Path, competition: str) -> Iterator[str]:
    """Yield what Kaggle would refuse, ignore or misread: file, key and remedy.

    Use the first problem only: the later checks take for granted that the earlier ones passed.
    """
    data, code = read_metadata(dataset, "dataset"), read_metadata(kernel, "kernel")
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
        yield "enable_internet is true, but this competition takes only kernels without internet: set it to false"
    if dataset not in metadata["dataset_sources"]:
        yield f"dataset_sources={metadata['dataset_sources']} lacks {dataset}, the dataset in kernels/dataset"
    if competition not in metadata["competition_sources"]:
        yield f"competition_sources={metadata['competition_sources']} lacks {competition}"
    machine = metadata.get("machine_shape") or None
    if machine is not None and machine not in GPUS:
        yield f"machine_shape={machine}: choose one of {', '.join(GPUS)}, or leave it out for a CPU"
    if metadata["enable_gpu"] != (machine is not None):
        yield f"enable_gpu={metadata['enable_gpu']} contradicts machine_shape={machine}: set package.accelerator"
    if metadata["language"] != "python":
        yield f"language={metadata['language']} is not python"
    if metadata["kernel_type"] not in SUFFIXES:
        yield f"kernel_type={metadata['kernel_type']}: choose one of {', '.join(SUFFIXES)}"
    if not metadata["code_file"].endswith(SUFFIXES[metadata["kernel_type"]]):
        yield f"code_file={metadata['code_file']} is no {metadata['kernel_type']}, as kernel_type says"


def key_problems(metadata: dict[str, Any], keys: Keys) -> Iterator[str]:
    for key in sorted(metadata.keys() - keys.keys()):
        yield f"{key} is no key that Kaggle's client reads, so it would be ignored: remove it"
    for key, (kind, optional) in keys.items():
        if key not in metadata and not optional:
            yield f"{key} is missing"
        elif key in metadata and not isinstance(metadata[key], kind):
            yield f"{key}={metadata[key]!r} is no {kind.__name__}"


def name_problems(metadata: dict[str, Any], kind: str) -> Iterator[str]:
    """Check id and title: Kaggle derives a slug from the title, which must be the slug in the id."""
    title, (owner, _, slug), (low, high) = metadata["title"], metadata["id"].rpartition("/"), LENGTHS[kind]
    if not OWNER.fullmatch(owner):
        yield f"id={metadata['id']}: set package.owner to your Kaggle user name, as in kaggle.com/<name>"
    if not SLUG.fullmatch(slug) or not low <= len(slug) <= high:
        yield (
            f"id={metadata['id']}: set package.{kind} to {low} to {high} lower-case letters and digits, with single"
            " hyphens between them"
        )
    if slug != slugify(title):
        yield f"title={title!r}: Kaggle makes the slug of the title {slugify(title)!r}, not that of id={metadata['id']}"
    if not low <= len(title) <= high:
        yield f"title={title!r} has {len(title)} characters; Kaggle allows {low} to {high}"


def file_problems(dataset: Path) -> Iterator[str]:
    files = uploaded_files(dataset)
    if folders := [path.name for path in files if not path.is_file()]:
        yield f"dataset/{folders[0]} is a folder, which the client does not upload: move its files into dataset/"
    if len(files) > DATASET_FILES:
        yield f"dataset/ has {len(files)} files; Kaggle allows {DATASET_FILES}: lower select.networks"
    size = sum(path.stat().st_size for path in files)
    if size > DATASET_BYTES:
        yield f"dataset/ has {size / 1e9:.0f} GB; Kaggle allows {DATASET_BYTES / 1e9:.0f}: lower select.megabytes"


def source_problems(path: Path, kernel_type: str) -> Iterator[str]:
    if not path.is_file():
        yield f"kernel-metadata.json: code_file={path.name} does not exist"
    if path.stat().st_size > SOURCE_BYTES:
        yield (
            f"{path.name} has {path.stat().st_size} bytes; Kaggle allows {SOURCE_BYTES}: move large content into the"
            " dataset"
        )
    if kernel_type == "notebook" and not has_kernelspec(path):
        yield (
            f"{path.name} is no notebook with metadata.kernelspec.name, which Kaggle needs to start it: save it in"
            " Jupyter"
        )


def has_kernelspec(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"])
    except (ValueError, KeyError, TypeError):
        return False
