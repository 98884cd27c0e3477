"""A rehearsed kernel made by hand, in a moment: what `submit` takes."""

import json
from pathlib import Path

from plant_pathology.core.hashes import file_hash, folder_hash
from plant_pathology.core.sealed import write_sealed

NAME = "plant-pathology-2021-fgvc8"
LABELS = ["complex", "healthy", "rust", "scab"]
BUNDLE = {"kind": "several", "answers": {"as_": "labels", "labels": LABELS, "separator": " ", "positive": None}}
DATASET, KERNEL = "tester/leaf-bundle", "tester/leaf-submission"
FAST = ["poll_s=0.01", "backoff_s=0.01", "settle_s=1", "retries=3", "request_timeout_s=60", "kernel_timeout_s=60"]
SUBMITTED = b"image,labels\na.jpg,scab\nb.jpg,rust complex\n"
ORIGIN = {
    "commit": "0123456789abcdef",
    "uncommitted": [],
    "data": {"ref": "plant-pathology:7", "sha256": "00"},
    "score": {"metric": "sample_f1", "validation": 0.81},
}
METADATA = {
    "id": KERNEL,
    "title": "leaf submission",
    "code_file": "submission.ipynb",
    "language": "python",
    "kernel_type": "notebook",
    "is_private": True,
    "enable_gpu": True,
    "machine_shape": "NvidiaTeslaT4",
    "enable_tpu": False,
    "enable_internet": False,
    "keywords": [],
    "dataset_sources": [DATASET],
    "competition_sources": [NAME],
    "kernel_sources": [],
    "model_sources": [],
    "provenance": ORIGIN,
}


def rehearsed_package(root: Path) -> Path:
    """Write a rehearsed kernel into a folder, and return it."""
    raw = root / "data/raw" / NAME
    raw.mkdir(parents=True)
    (raw / "sample_submission.csv").write_text("image,labels\na.jpg,healthy\nb.jpg,healthy\n")
    dataset, kernel = root / "kernels/dataset", root / "kernels/submission"
    dataset.mkdir(parents=True)
    kernel.mkdir()
    write(dataset / "bundle.json", BUNDLE)
    (dataset / "model.safetensors").write_bytes(bytes(range(256)) * 400)
    (dataset / "leaf-1-py3-none-any.whl").write_bytes(b"wheel")
    write(dataset / "dataset-metadata.json", {"title": "leaf bundle", "id": DATASET, "licenses": [{"name": "CC0-1.0"}]})
    write(kernel / "kernel-metadata.json", METADATA)
    write_notebook(root, "print(1)\n")
    rehearsed(root)
    return root


def write(path, content):
    path.write_text(json.dumps(content))


def write_notebook(root, *lines):
    cell = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": list(lines)}
    about = {"kernelspec": {"name": "python3"}, "provenance": ORIGIN}
    notebook = {"cells": [cell], "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    write(root / "kernels/submission/submission.ipynb", notebook)


def rehearsed(root, **changed):
    hashes = {part: folder_hash(root / "kernels" / part) for part in ("dataset", "submission")}
    submitted = root / "reports/rehearsal/submission.csv"
    sha256 = file_hash(submitted) if submitted.exists() else None
    report = {"verdict": "passed", "competition": NAME, "sha256": hashes, "submission": sha256, **changed}
    (root / "reports").mkdir(exist_ok=True)
    write_sealed(root / "reports/rehearsal.json", report)


def arguments(*overrides):
    return [f"competition={NAME}", *(f"submit.{setting}" for setting in FAST), *overrides]


def file_root(root) -> Path:
    """Write what the rehearsal left for a competition that takes files."""
    (root / "reports/rehearsal").mkdir()
    (root / "reports/rehearsal/submission.csv").write_bytes(SUBMITTED)
    rehearsed(root)
    return root
