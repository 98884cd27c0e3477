"""Write what goes to Kaggle: a dataset folder (bundle, wheels, model card) and a kernel folder (notebook or script).

The kernel runs without internet and pip. It records the commit, data version and runs that it was made from. If Kaggle
would refuse the folders, the previous ones stay as they are.
"""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology.competition.bundle import checked_bundle
from plant_pathology.competition.spec import Competition
from plant_pathology.competition.time_limit import FASTER, TimeLimit
from plant_pathology.core import provenance
from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder, remove_leftovers, write_json
from plant_pathology.core.hashes import file_hash
from plant_pathology.core.one_command import one_command
from plant_pathology.core.schema import CPU
from plant_pathology.core.sealed import hashes_of
from plant_pathology.inference.bundle import SPEC
from plant_pathology.kernel.kaggle_image import HERE
from plant_pathology.kernel.model_card import model_card
from plant_pathology.kernel.package import submission_hashes
from plant_pathology.kernel.rules import MAX_SLUG, problems_of
from plant_pathology.kernel.source import CODE_FILES, kernel_source
from plant_pathology.kernel.wheels import check_wheels, wheel_of_installed, wheel_of_room, wheels_in

# Distributions that travel as wheels even if Kaggle's image has them: networks need the timm that trained them.
BROUGHT = ("timm",)
STAGES_BEFORE = ("prepare", "push", "train", "select")


def build(cfg: DictConfig) -> None:
    """Write kernels/dataset and kernels/submission.

    Raises:
        UserError: the bundle is missing, damaged, or was selected for another config or by other code; it would not
            finish within Kaggle's time limit; or Kaggle would refuse the folders.
        BusyError: another command works on models/ or kernels/.
    """
    competition = Competition.from_config(cfg)
    models, kernels = Path(cfg.paths.models), Path(cfg.paths.kernels)
    bundle = models / "best"
    with one_command(writes=[kernels], reads=[models]):
        remove_leftovers(kernels / "dataset", kernels / "submission")
        spec = checked_bundle(bundle, competition)
        limit = TimeLimit.from_config(cfg, competition)
        if problem := limit.problem(spec["seconds_per_image"]):
            raise UserError(f"{bundle}: {problem}: {FASTER}, and run `python -m plant_pathology.select`")
        dataset = f"{cfg.package.owner}/{cfg.package.dataset or default_slug(competition.name, 'bundle')}"
        kernel = f"{cfg.package.owner}/{cfg.package.kernel or default_slug(competition.name, 'submission')}"
        origin = origin_of(Path(cfg.paths.root), spec)  # before there are new folders, which git would call uncommitted
        with atomic_folder(kernels / "dataset") as data, atomic_folder(kernels / "submission") as code:
            for name in (SPEC, *spec["files"]):
                shutil.copyfile(bundle / name, data / name)
            wheels = write_wheels(data)
            card = model_card(spec, cfg.package.licence, wheels)
            (data / "README.md").write_text(card, encoding="utf-8")
            write_json(data / "dataset-metadata.json", dataset_metadata(cfg, dataset, card))
            origin |= {"dataset": hashes_of(*sorted(data.iterdir()))}
            code_file = code / CODE_FILES[cfg.package.kernel_type]
            constants = {"COMPETITION": competition.name, "BUNDLE": file_hash(bundle / SPEC), "SECONDS": limit.seconds}
            code_file.write_text(kernel_source(cfg.package.kernel_type, constants, origin), encoding="utf-8")
            about = kernel_metadata(cfg, kernel, dataset, competition, origin)
            write_json(code / "kernel-metadata.json", about | {"hashes": submission_hashes(code, about)})
            for problem in problems_of(data, code, competition.name):
                raise UserError(problem)
    print(f"{kernels}/dataset and {kernels}/submission: kernel {kernel} with dataset {dataset}")


def write_wheels(folder: Path) -> list[metadata.Distribution]:
    """Write the wheels of BROUGHT and of the room `inference`, and return their metadata.

    Raises:
        UserError: a wheel would not work on Kaggle.
    """
    for name in BROUGHT:
        wheel_of_installed(name, folder)
    wheel_of_room(Path(__file__).parents[1], "inference", folder)
    wheels = wheels_in(folder)
    check_wheels(wheels, HERE.distributions())
    return wheels


def default_slug(competition: str, ending: str) -> str:
    """Return <competition>-<ending> in lower case, without the competition's last words if it would be too long."""
    words = competition.lower().split("-")
    while len(slug := "-".join([*words, ending])) > MAX_SLUG and len(words) > 1:
        words.pop()
    return slug


def title_of(ref: str) -> str:
    """Return a title from which Kaggle makes exactly the slug of owner/slug."""
    return ref.rpartition("/")[2].replace("-", " ")


def origin_of(root: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the kernel's provenance: commit, DVC's hashes, data version, score, and runs with their configs."""
    return {
        **provenance.commit(checkout()),
        "dvc_lock": provenance.locked_outputs(root, STAGES_BEFORE),
        "competition": spec["competition"],
        "synthetic": spec["synthetic"],
        "data": spec["data"],
        "score": spec["score"],
        "runs": spec["runs"],
    }


def dataset_metadata(cfg: DictConfig, dataset: str, card: str) -> dict[str, Any]:
    """Return dataset-metadata.json; Kaggle shows the description above the files."""
    return {
        "title": title_of(dataset),
        "id": dataset,
        "licenses": [{"name": cfg.package.licence}],
        "description": card,
    }


def kernel_metadata(
    cfg: DictConfig, kernel: str, dataset: str, competition: Competition, origin: dict[str, Any]
) -> dict[str, Any]:
    """Return kernel-metadata.json with every key that the client reads, since `enable_internet` is true by default.

    Only the two that have no value for Kaggle's own choice are left out for it: `machine_shape` and `docker_image`.
    """
    machine, image = cfg.package.accelerator, cfg.package.docker_image
    return {
        "id": kernel,
        "title": title_of(kernel),
        "code_file": CODE_FILES[cfg.package.kernel_type],
        "language": "python",
        "kernel_type": cfg.package.kernel_type,
        "is_private": True,
        "enable_gpu": machine != CPU,
        **({"machine_shape": machine} if machine != CPU else {}),
        **({"docker_image": image} if image else {}),
        "enable_tpu": False,
        "enable_internet": False,
        "keywords": [],
        "dataset_sources": [dataset],
        "competition_sources": [competition.name],
        "kernel_sources": [],
        "model_sources": [],
        "provenance": origin,
    }
