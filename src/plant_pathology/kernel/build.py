"""Stage: the bundle to what Kaggle takes: a dataset folder (bundle, code, model card) and a kernel folder.

The kernel, a notebook or a script, has no internet and needs no pip. It carries the commit, data and runs that it came
from. What Kaggle would refuse is refused here, and leaves the folders as they were.
"""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core import provenance
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, read_json, write_json
from plant_pathology.core.schema import check_values
from plant_pathology.kernel.kaggle_image import image_distributions
from plant_pathology.kernel.model_card import model_card
from plant_pathology.kernel.rules import LICENCES, problems_of
from plant_pathology.kernel.source import CODE_FILES, kernel_source
from plant_pathology.kernel.wheels import check_wheels, wheel_of_installed, wheel_of_room, wheels_in

# As wheels, whatever Kaggle's image has of them: networks are those of the timm that trained them.
BROUGHT = ("timm",)
STAGES_BEFORE = ("prepare", "push", "train", "select")


def build(cfg: DictConfig) -> None:
    check_values(
        cfg,
        choices={
            "package.kernel_type": tuple(CODE_FILES),
            "package.licence": LICENCES,
            "package.gpu": (True, False),
        },
    )
    competition = Competition.from_config(cfg)
    bundle, kernels = Path(cfg.paths.models) / "best", Path(cfg.paths.kernels)
    spec = read_json(bundle / "bundle.json", "run `python -m plant_pathology.select`")
    if spec["competition"] != competition.name:
        raise UserError(f"{bundle} is for {spec['competition']}, not {competition.name}: run `dvc repro`")
    dataset = f"{cfg.package.owner}/{cfg.package.dataset or f'{competition.name}-bundle'}"
    kernel = f"{cfg.package.owner}/{cfg.package.kernel or f'{competition.name}-submission'}"
    origin = origin_of(Path(cfg.paths.root), spec)
    with atomic_folder(kernels / "dataset") as data, atomic_folder(kernels / "submission") as code:
        shutil.copytree(bundle, data, dirs_exist_ok=True)
        wheels = write_wheels(data)
        card = model_card(spec, cfg.package.licence, wheels)
        (data / "README.md").write_text(card)
        write_json(data / "dataset-metadata.json", dataset_metadata(cfg, dataset, card))
        code_file = code / CODE_FILES[cfg.package.kernel_type]
        code_file.write_text(kernel_source(cfg.package.kernel_type, origin))
        write_json(code / "kernel-metadata.json", kernel_metadata(cfg, kernel, dataset, competition, origin))
        for problem in problems_of(data, code, competition.name):
            raise UserError(problem)
    print(f"{kernels}/dataset and {kernels}/submission: kernel {kernel} with dataset {dataset}")


def write_wheels(folder: Path) -> list[metadata.Distribution]:
    """All that the kernel imports and Kaggle's image does not have, or not as we need it.

    Raises:
        UserError: they would not do.
    """
    for name in BROUGHT:
        wheel_of_installed(name, folder)
    wheel_of_room(Path(__file__).parents[1], "inference", folder)
    wheels = wheels_in(folder)
    check_wheels(wheels, image_distributions())
    return wheels


def title_of(ref: str) -> str:
    """The title that Kaggle turns back into exactly the slug of owner/slug."""
    return ref.rpartition("/")[2].replace("-", " ")


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


def dataset_metadata(cfg: DictConfig, dataset: str, card: str) -> dict[str, Any]:
    """The description is what Kaggle shows above the files."""
    return {
        "title": title_of(dataset),
        "id": dataset,
        "licenses": [{"name": cfg.package.licence}],
        "description": card,
    }


def kernel_metadata(
    cfg: DictConfig, kernel: str, dataset: str, competition: Competition, origin: dict[str, Any]
) -> dict[str, Any]:
    """Every key that the client reads, none left to its default: that of `enable_internet` is true."""
    return {
        "id": kernel,
        "title": title_of(kernel),
        "code_file": CODE_FILES[cfg.package.kernel_type],
        "language": "python",
        "kernel_type": cfg.package.kernel_type,
        "is_private": True,
        "enable_gpu": cfg.package.gpu,
        "enable_tpu": False,
        "enable_internet": False,
        "keywords": [],
        "dataset_sources": [dataset],
        "competition_sources": [competition.name],
        "kernel_sources": [],
        "model_sources": [],
        "provenance": origin,
    }
