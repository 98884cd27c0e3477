"""pyproject.toml declares every distribution that the code imports, and no other; an extra's are imported late."""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.commands import PROJECT

DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("mlflow", "wandb", "submitit", "sky")  # what src/ can use and does without
OURS = {"plant_pathology", "hydra_plugins", "support"}
ONLY_BENCH = {"litdata", "webdataset"}  # as their distributions are called; make test does not install them

# What the core (None) and extras need without an import of ours, and what needs it.
WITHOUT_IMPORT: dict[str | None, dict[str, str]] = {
    None: {
        "dvc": "make runs it as a command",
        "tensorboard": "Lightning's TensorBoardLogger, and make tensorboard",
    },
    "submitit": {"hydra-submitit-launcher": "Hydra finds it: hydra/launcher=submitit_slurm"},
    "test": {
        "flask": "moto's server",
        "flask-cors": "moto's server",
        "import-linter": "tests/test_architecture.py runs it",
        "pytest-xdist": "pytest's option -n in pyproject.toml",
        "ruff": "tests/kernel runs it",
        "vermin": "tests/kernel runs it",
    },
    "lint": {name: "a command of make lint" for name in ("import-linter", "mypy", "ruff")},
}


def imports(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield each import of another distribution: its top-level name, the file, whether it waits in a function."""
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        late = {inner for function in functions for inner in ast.walk(function)}
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                yield top, path.relative_to(PROJECT), node in late


@cache
def installed() -> dict[str, set[str]]:
    """Return {top-level name: normalized names of the distributions that contain it}."""
    return {top: set(map(canonicalize_name, names)) for top, names in metadata.packages_distributions().items()}


def distributions_of(top: str) -> set[str]:
    if top in ONLY_BENCH:
        return {top}
    assert top in installed(), f"{top} is not installed, so its distribution is unknown: make test installs it"
    return installed()[top]


def names_in(requirements: Iterable[str]) -> set[str]:
    """Return normalized names; of the extras of this project that an extra includes, the names in those."""
    found = set()
    for requirement in map(Requirement, requirements):
        if canonicalize_name(requirement.name) == "plant-pathology":
            for extra in requirement.extras:
                found |= declared(extra)
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def declared(extra: str | None = None) -> set[str]:
    """Return the distributions of the core, or those that an extra adds."""
    return names_in(DECLARED["optional-dependencies"][extra] if extra else DECLARED["dependencies"])


def imported(*folders: str) -> set[str]:
    return {name for folder in folders for top, _, _ in imports(PROJECT / folder) for name in distributions_of(top)}


def test_the_core_declares_all_that_it_imports_and_extras_are_imported_late():
    optional = set().union(*map(declared, EXTRAS))
    for top, path, late in imports(PROJECT / "src"):
        if not distributions_of(top) & declared():
            assert distributions_of(top) & optional, f"{path} imports {top}, which pyproject.toml does not declare"
            assert late, f"{path} imports {top}, which only an extra installs, before it is needed"


@pytest.mark.parametrize(("folder", "extra"), [("tests", "test"), ("benchmarks", "bench")])
def test_the_tests_and_benchmarks_declare_all_that_they_import(folder, extra):
    known = declared() | declared(extra)
    for top, path, _ in imports(PROJECT / folder):
        assert distributions_of(top) & known, f"{path} imports {top}, which the extra `{extra}` does not declare"


@pytest.mark.parametrize("extra", [None, *EXTRAS], ids=["core", *EXTRAS])
def test_the_core_and_its_extras_declare_nothing_that_the_code_does_not_need(extra):
    assert declared(extra) <= imported("src") | WITHOUT_IMPORT.get(extra, {}).keys()


@pytest.mark.parametrize("extra", ["test", "lint", "bench"])
def test_the_developers_extras_declare_nothing_that_they_do_not_need(extra):
    included = (*EXTRAS, "test") if extra == "bench" else EXTRAS
    own = declared(extra) - set().union(*map(declared, included))
    assert own <= imported("tests", "benchmarks") | WITHOUT_IMPORT.get(extra, {}).keys()


@pytest.mark.parametrize("extra", WITHOUT_IMPORT)
def test_what_is_needed_without_an_import_is_declared_too(extra):
    assert declared(extra) >= WITHOUT_IMPORT[extra].keys()


@pytest.mark.parametrize("extra", DECLARED["optional-dependencies"])
def test_an_extra_adds_nothing_that_the_core_installs(extra):
    assert not declared(extra) & declared()


def test_the_lock_pins_all_that_is_declared_and_no_cuda_package():
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
    everything = declared().union(*map(declared, DECLARED["optional-dependencies"]))
    assert not everything - pinned.keys(), "make lock pins them"
    assert not [name for name in pinned if name.startswith(("nvidia", "cuda", "triton"))]
