"""Fixtures for all tests: raw images, pushed data, a finished pipeline, stores, and an S3 server."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from plant_pathology.choose import with_choice
from plant_pathology.competition.sample import draw
from plant_pathology.core.disk import require_space
from plant_pathology.core.errors import UserError
from plant_pathology.core.processes import cpu_count
from support.checkout import copy_checkout
from support.commands import ABSENT, PROJECT, TINY, git, replace, run_in, run_module
from support.stores import BucketPlace, FolderPlace, S3Server, credentials

# There are more test processes than cores; several threads in each would only wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"

# As on a machine of which nothing is known: modules are compiled beside their source, and output waits in a buffer; the
# accounts, servers and cluster of whoever runs the tests are not theirs.
for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONWARNINGS"):
    os.environ.pop(name, None)
for name in list(os.environ):
    if name.startswith(("AWS_", "HF_TOKEN", "HYDRA_", "KAGGLE_", "MLFLOW_", "SLURM_", "WANDB_")):
        del os.environ[name]

# A `make` that a test runs is no part of the `make test` that may have started the tests.
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(name, None)

REAL = PROJECT.parent / "shared" / "data" / "plant-pathology-2021-fgvc8"


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores, because tests also wait: for a killed process, for a run's next epoch."""
    return cpu_count() + 1


def pytest_configure(config: pytest.Config) -> None:
    """Stop where the disk is too small for the tests, before some hundred of them fail for a reason that none tells."""
    size = 0.5e9 if config.option.markexpr == "not slow" else 2.5e9
    try:
        require_space(Path(config.option.basetemp or tempfile.gettempdir()), size, "the tests' folders", key="TMPDIR")
    except UserError as error:
        raise pytest.UsageError(str(error)) from None


# tryfirst: xdist's own hook, which reads the marks, must come later.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow faults; run tests that share a pipeline's output in one process, and start them first."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if getattr(parameters.get("fault"), "slow", False):
            item.add_marker(pytest.mark.slow)
    shared = [item for item in items if {"project", "root"} & set(item.fixturenames)]
    for item in shared:
        item.add_marker(pytest.mark.xdist_group("project" if "project" in item.fixturenames else item.path.stem))
    items.sort(key=lambda item: ("project" not in item.fixturenames, item not in shared))


def pytest_collection_finish() -> None:
    # Exempt imported modules from garbage collection: with torch loaded each collection takes half a second.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def without_loggers() -> Iterator[None]:
    """Hide MLflow, W&B and their dependencies from child processes, as if no extra were installed.

    Otherwise timm imports W&B, and pandas imports PyArrow and stores its strings there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ABSENT), prepend=os.pathsep)
        yield


@pytest.fixture
def with_loggers(monkeypatch) -> None:
    """Undo `without_loggers`."""
    monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"].removeprefix(str(ABSENT)).removeprefix(os.pathsep))


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """Return the folder of a small synthetic competition in Kaggle's layout; tests must not change it."""
    folder = tmp_path_factory.mktemp("raw") / "sample"
    draw(folder, seed=0, train=60, test=8)
    return folder


def made_once(name: str, tmp_path_factory, worker_id: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that all test processes share; the first one that needs it makes it."""
    session = tmp_path_factory.getbasetemp()
    folder = (session if worker_id == "master" else session.parent) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            work = tmp_path_factory.mktemp(name)
            make(work)
            work.rename(folder)
    return folder


def run_all(folder: Path, *commands: list[str], raw: Path) -> None:
    """Run commands of the package in a folder with the settings TINY."""
    for module, *arguments in commands:
        done = run_module(module, *arguments, *TINY, f"paths.raw={raw}", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def pushed(raw, tmp_path_factory, worker_id) -> Path:
    """Return a folder with prepared and pushed data, shared by all test processes; tests must not change it."""

    def make(work: Path) -> None:
        run_all(work, ["prepare"], ["datastore", "push"], raw=raw)

    return made_once("pushed", tmp_path_factory, worker_id, make)


@pytest.fixture(scope="session")
def trained(raw, pushed, tmp_path_factory, worker_id) -> Path:
    """Return `pushed` with a finished sweep of two learning rates and two folds; tests must not change it."""

    def make(work: Path) -> None:
        shutil.copytree(pushed, work, dirs_exist_ok=True)
        run_all(work, ["train", "-m", "train.folds=2", "model.lr=1e-3,1e-2"], raw=raw)

    return made_once("trained", tmp_path_factory, worker_id, make)


@pytest.fixture(scope="session")
def packaged(raw, trained, tmp_path_factory, worker_id) -> Path:
    """Return `trained` with the selected bundle and the packaged kernel; tests must not change it."""

    def make(work: Path) -> None:
        shutil.copytree(trained, work, dirs_exist_ok=True)
        run_all(work, ["select"], ["package", "package.owner=tester"], raw=raw)

    return made_once("packaged", tmp_path_factory, worker_id, make)


@pytest.fixture
def fault_folder(request, tmp_path) -> Callable[[str], Path]:
    """Return a function that copies what a fixture made, for one fault to change."""

    def copy(start: str) -> Path:
        if start == "raw":  # where Kaggle's files are expected, and nothing else
            shutil.copytree(request.getfixturevalue("raw"), tmp_path / "f" / "data" / "raw" / "sample")
        else:
            shutil.copytree(request.getfixturevalue(start), tmp_path / "f")
        return tmp_path / "f"

    return copy


@pytest.fixture(scope="module")
def root(pushed, tmp_path_factory) -> Path:
    """Return a copy of `pushed` for one module's runs."""
    return Path(shutil.copytree(pushed, tmp_path_factory.mktemp("root"), dirs_exist_ok=True))


SMALL = {
    "  model: resnet18,resnet34,resnet50": "  model: test_resnet",
    "  lr: 1e-4,5e-4,1e-3": "  lr: 1e-3,1e-2",
    "  owner: KAGGLE_USERNAME": "  owner: tester",
    "  batch_size: 32": "  batch_size: 16",
    "  folds: 1 ": "  folds: 2 ",
}


@pytest.fixture(scope="session")
def project(raw, tmp_path_factory) -> Path:
    """Return a copy of this checkout, committed, after `dvc repro` with a small sweep on a small network."""
    folder = tmp_path_factory.mktemp("project") / "checkout"
    copy_checkout(folder)
    (folder / "dvc.lock").unlink(missing_ok=True)
    choices = folder / "conf" / "choices.yaml"
    text = choices.read_text()
    for group, choice in (("competition", "sample"), ("machine", "cpu"), ("recipe", "ours")):
        text = with_choice(text, group, choice)
    choices.write_text(text)
    for old, new in SMALL.items():
        replace(folder / "conf" / "params.yaml", old, new)
    replace(folder / "conf/machine/cpu.yaml", "image_size: 64", "image_size: 32")
    replace(folder / "conf/machine/cpu.yaml", "max_epochs: 5", "max_epochs: 1")
    replace(folder / "conf/competition/sample.yaml", "images: 200", "images: 100")
    shutil.copytree(raw, folder / "data" / "raw" / "sample")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "small")
    run_in(folder, "dvc", "repro")
    return folder


@pytest.fixture
def real_images() -> Path:
    """Return the folder with 4,000 images of the real competition; skip the test without it."""
    if not REAL.is_dir():
        pytest.skip(f"needs the real competition images in {REAL}")
    return REAL


@pytest.fixture(scope="session")
def s3():
    """Start an S3 server with one bucket, and set its credentials in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials().items():
            patch.setenv(name, value)
        server = S3Server()
        yield server
        server.close()


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path):
    return FolderPlace(tmp_path) if request.param == "file" else BucketPlace(tmp_path, request.getfixturevalue("s3"))


@pytest.fixture
def store(place):
    return place.store()
