"""Imports point down, what travels to Kaggle stays light, and every stage depends on all that it reaches."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.commands import PROJECT

SOURCE = PROJECT / "src"
PACKAGE = SOURCE / "plant_pathology"
# What the image of a Kaggle kernel has, and timm, which travels as a wheel.
IN_THE_IMAGE = {"numpy", "pandas", "PIL", "safetensors", "timm", "torch", "tqdm"}


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for path in SOURCE.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also inside its functions and for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reach(*modules: str) -> set[str]:
    """The project's modules that these import, directly or through others, and these themselves."""
    seen, ahead = set(), list(modules)
    while ahead:
        current = ahead.pop()
        if current not in seen:
            seen.add(current)
            ahead += imports(FILES[current]) & FILES.keys()
    return seen


def test_imports_point_down_as_pyproject_says():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
# Reached without an import: a sweep's callback and launchers by conf/ and Hydra, the kernel's wheel as a folder.
# Not the launcher of Kaggle: the stage does not use it, it needs the rooms kaggle and kernel, its digits are equal.
BY_NAME = {
    "train": [
        "plant_pathology.sweeps.index",
        *(name for name in FILES if name.startswith("hydra_plugins.") and name != "hydra_plugins.kaggle_launcher"),
    ],
    "package": [name for name in FILES if name.startswith("plant_pathology.inference.")],
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_reaches(stage):
    command = STAGES[stage]["cmd"].split()[2]
    listed = [PROJECT / dependency for dependency in STAGES[stage]["deps"]]
    for module in reach(command, *BY_NAME.get(stage, [])):
        path = FILES[module]
        assert path.name == "__init__.py" or any(path.is_relative_to(each) for each in listed), f"{module} is missing"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_room_that_it_does_not_reach(stage):
    reached = [FILES[module] for module in reach(STAGES[stage]["cmd"].split()[2], *BY_NAME.get(stage, []))]
    for dependency in STAGES[stage]["deps"]:
        if dependency.startswith("src/"):
            assert any(path.is_relative_to(PROJECT / dependency) for path in reached), dependency


@pytest.mark.parametrize("stage", ["prepare", "train", "select", "package", "rehearse"])
def test_a_stage_that_reads_settings_depends_on_each_file_that_may_override_them(stage):
    assert {"conf/machine", "conf/recipe", "conf/competition/${competition}.yaml"} <= set(STAGES[stage]["deps"])
    choices = [each["conf/choices.yaml"] for each in STAGES[stage]["params"] if "conf/choices.yaml" in each]
    assert {"machine", "recipe"} <= set(*choices)


def test_a_run_s_code_identity_covers_all_that_decides_its_digits():
    """What training reaches is in the identity, or moves bytes and measurements without deciding a digit."""
    from plant_pathology.runs.run import CODE

    carriers = {"core", "store", "runs"}
    # They describe the competition, whose metric, kind of target and answer are in the identity by name.
    describe = {
        "competition/labels.py",
        "competition/spec.py",
        "competition/own_code.py",
        "inference/custom.py",
        "inference/test_set.py",
        "inference/tables.py",
        "inference/file_kinds.py",
    }
    for module in reach("plant_pathology.training.fit"):
        path = FILES[module].relative_to(PACKAGE)
        covered = any(path.is_relative_to(part) for part in CODE)
        assert covered or path.parts[0] in carriers or path.as_posix() in describe or path.name == "__init__.py", module


def test_the_room_that_travels_needs_nothing_but_kaggle_s_image():
    room = [path for path in (PACKAGE / "inference").rglob("*.py")]
    assert room
    for path in room:
        names = imports(path)
        own = {name for name in names if name.startswith("plant_pathology")}
        assert all(name.startswith("plant_pathology.inference") for name in own), path
        tops = {name.split(".")[0] for name in names - own} - sys.stdlib_module_names
        assert tops <= IN_THE_IMAGE, f"{path} imports {tops - IN_THE_IMAGE}"


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.startswith("plant_pathology")))
def test_nothing_happens_at_import(module):
    """No statement at the top of a module calls anything that acts on the world."""
    tree = ast.parse(FILES[module].read_text())
    acting = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert not acting, f"line {acting[0].lineno} acts at import"


def test_no_file_of_others_is_read_in_a_way_that_can_run_code():
    """As SECURITY.md promises: no pickle, and YAML without tags of Python."""
    safe = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False", "np.save": "allow_pickle=False"}
    forbidden = ("yaml.load", "yaml.unsafe_load", "pickle.load", "pickle.loads", "pd.read_pickle", "eval", "exec")
    kernel = "plant_pathology.kernel.runner"  # runs what `package` wrote, in isolation: SECURITY.md says so
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (name, ast.unparse(node.func)) != (kernel, "exec"):
                called, options = ast.unparse(node.func), {ast.unparse(each) for each in node.keywords}
                assert called not in forbidden, f"{name}, line {node.lineno}"
                assert safe.get(called) in {None, *options}, f"{name}, line {node.lineno}"


@pytest.mark.parametrize("module", ["train", "report"])
def test_a_finished_run_is_answered_and_reported_without_torch(module):
    program = f"import sys, plant_pathology.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("module", ["datastore", "monitor", "train"])
def test_what_only_reads_the_store_does_not_wait_for_pandas(module):
    program = f"import sys, plant_pathology.{module}; sys.exit(bool({{'numpy', 'pandas'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
