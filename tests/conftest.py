import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from plant_pathology.competition import Competition
from plant_pathology.sample import draw

PROJECT = Path(__file__).parents[1]
REAL = PROJECT.parent / "shared" / "data" / "plant-pathology-2021-fgvc8"


def run_module(module: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """The real command line: `python -m plant_pathology.<module>` in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", f"plant_pathology.{module}", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def config(*overrides: str) -> DictConfig:
    """conf/ composed as the command line would; on the sample unless told otherwise."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose("config", ["competition=sample", "machine=cpu", *overrides])


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """A small drawn competition in Kaggle's layout; read-only by agreement."""
    folder = tmp_path_factory.mktemp("raw") / "sample"
    draw(folder, Competition.from_config(config()), seed=0, train=60, test=8)
    return folder


@pytest.fixture
def real_images() -> Path:
    """4,000 images of the real competition, where they are at hand."""
    if not REAL.is_dir():
        pytest.skip(f"needs the real competition images in {REAL}")
    return REAL
