"""Stage: the bundle to what Kaggle takes: a dataset folder (bundle and code) and a kernel folder (notebook).

The kernel has no internet and needs no pip. It says which commit, data and runs it came from, in its metadata.
"""

import json
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology import provenance
from plant_pathology.competition import Competition
from plant_pathology.stage import StageError, checkout, read_json, stage, whole_folder, write_json
from plant_pathology.wheels import wheel_of_installed, wheel_of_modules

KERNEL_MODULES = ("__init__", "images", "metrics", "predict", "symmetries")
STAGES_BEFORE = ("prepare", "push", "sweep", "select")
NOTEBOOK = Path("notebooks/submission.ipynb")


@stage
def main(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    bundle, kernels = Path(cfg.paths.models) / "best", Path(cfg.paths.kernels)
    spec = read_json(bundle / "bundle.json", "run `python -m plant_pathology.select`")
    if spec["competition"] != competition.name:
        raise StageError(f"{bundle} is for {spec['competition']}, not {competition.name}: run `dvc repro`")
    owner = check_slug("owner", cfg.package.owner)
    dataset = check_slug("dataset", cfg.package.dataset or f"{competition.name}-bundle")
    kernel = check_slug("kernel", cfg.package.kernel or f"{competition.name}-submission")
    origin = origin_of(Path(cfg.paths.root), spec)
    with whole_folder(kernels / "dataset") as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
        wheel_of_installed("timm", folder)
        source = Path(__file__).parent
        modules = [source / f"{module}.py" for module in KERNEL_MODULES]
        wheel_of_modules("plant_pathology", metadata.version("plant_pathology"), modules, folder)
        write_json(folder / "dataset-metadata.json", dataset_metadata(owner, dataset))
    with whole_folder(kernels / "submission") as folder:
        write_json(folder / NOTEBOOK.name, notebook(origin))
        write_json(folder / "kernel-metadata.json", kernel_metadata(cfg, owner, dataset, kernel, competition, origin))
    print(f"{kernels}/dataset and {kernels}/submission: kernel {owner}/{kernel} with dataset {owner}/{dataset}")


def check_slug(key: str, name: str) -> str:
    """Raises: StageError where Kaggle would refuse the name, or silently take another."""
    if key == "owner":
        if not re.fullmatch(r"[A-Za-z0-9_-]{3,}", name):
            raise StageError(f"package.owner={name}: your Kaggle user name, as in kaggle.com/<name>")
    elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or not 6 <= len(name) <= 50:
        raise StageError(f"package.{key}={name}: 6 to 50 lower-case letters and digits, with single hyphens between")
    return name


def title_of(slug: str) -> str:
    """The title that Kaggle turns back into exactly this slug."""
    return slug.replace("-", " ")


def origin_of(root: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """All that tells this kernel from another: commit, DVC's hashes, data version, runs with their configs."""
    return {
        **provenance.commit(root),
        "dvc_lock": provenance.locked_outputs(root, STAGES_BEFORE),
        "competition": spec["competition"],
        "synthetic": spec["synthetic"],
        "data": spec["data"],
        "score": spec["score"],
        "runs": spec["runs"],
    }


def dataset_metadata(owner: str, dataset: str) -> dict[str, Any]:
    return {"title": title_of(dataset), "id": f"{owner}/{dataset}", "licenses": [{"name": "CC0-1.0"}]}


def kernel_metadata(
    cfg: DictConfig, owner: str, dataset: str, kernel: str, competition: Competition, origin: dict[str, Any]
) -> dict[str, Any]:
    """Every key that the client reads, none left to its default: that of `enable_internet` is true."""
    return {
        "id": f"{owner}/{kernel}",
        "title": title_of(kernel),
        "code_file": NOTEBOOK.name,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": bool(cfg.package.gpu),
        "enable_tpu": False,
        "enable_internet": False,
        "keywords": [],
        "dataset_sources": [f"{owner}/{dataset}"],
        "competition_sources": [competition.name],
        "kernel_sources": [],
        "model_sources": [],
        "provenance": origin,
    }


def notebook(origin: dict[str, Any]) -> dict[str, Any]:
    """notebooks/submission.ipynb, with its origin in the metadata, where a push to Kaggle keeps it."""
    content = json.loads((checkout() / NOTEBOOK).read_text())
    content["metadata"]["provenance"] = origin
    return content


if __name__ == "__main__":
    main()
