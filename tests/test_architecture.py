"""Imports go one way, and what travels to Kaggle stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "plant_pathology"
TRAINING_ONLY = {"pytorch_lightning", "lightning", "hydra", "omegaconf", "dvc", "boto3", "sklearn", "iterstrat"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path) -> set[str]:
    names = {name.removeprefix("plant_pathology.") for name in imports(path) if name.startswith("plant_pathology")}
    return {name for name in names if (SOURCE / f"{name}.py").exists()}


GRAPH = {path.stem: own(path) for path in SOURCE.glob("*.py")}


def reach(module: str) -> set[str]:
    seen, ahead = set(), [module]
    while ahead:
        current = ahead.pop()
        if current not in seen:
            seen.add(current)
            ahead += GRAPH[current]
    return seen


def test_no_module_is_within_its_own_reach():
    for module, needed in GRAPH.items():
        for other in needed:
            assert module not in reach(other), f"{module} and {other} import each other"


def test_what_predicts_reaches_nothing_that_belongs_to_training():
    for module in reach("predict"):
        tops = {name.split(".")[0] for name in imports(SOURCE / f"{module}.py")}
        assert not tops & TRAINING_ONLY, f"{module} imports {tops & TRAINING_ONLY}"


def test_the_kernel_s_wheel_holds_all_that_predict_reaches():
    from plant_pathology.kernel.build import KERNEL_MODULES

    assert set(KERNEL_MODULES) == reach("predict") | {"__init__"}


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_nothing_happens_at_import(module):
    """No statement at the top of a module calls anything that acts on the world."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    acting = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert not acting, f"line {acting[0].lineno} acts at import"


@pytest.mark.parametrize("module", ["train", "report"])
def test_a_finished_run_is_answered_and_reported_without_torch(module):
    program = f"import sys, plant_pathology.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("module", ["datastore", "sweep", "train"])
def test_what_only_reads_the_store_does_not_wait_for_pandas(module):
    program = f"import sys, plant_pathology.{module}; sys.exit(bool({{'numpy', 'pandas'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
