"""`package`: the two folders for Kaggle are complete, within Kaggle's rules and work with each of its Pythons."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import file_hash, folder_hash
from plant_pathology.core.provenance import commit
from plant_pathology.kernel.build import default_slug, title_of
from plant_pathology.kernel.package import Package
from plant_pathology.kernel.rules import name_problems
from plant_pathology.kernel.source import NOTEBOOK, as_script, with_constants
from plant_pathology.kernel.wheels import (
    PYTHONS,
    check_wheels,
    imported_distributions,
    wheel_of_installed,
    wheels_in,
    write_wheel,
)
from support.bundles import change_bundle
from support.commands import PROJECT, git, run_module
from support.local_kaggle import environment, in_sandbox, local_kaggle

MODULES = sorted((PROJECT / "src/plant_pathology/inference").rglob("*.py"))


@pytest.fixture
def root(project, tmp_path):
    """Bundle and kernels of the finished project, to change."""
    for name in ("models", "kernels"):
        shutil.copytree(project / name, tmp_path / name)
    return tmp_path


def package(root, *overrides):
    return run_module("package", "competition=sample", "package.owner=tester", *overrides, cwd=root)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def metadata_of(root, kind):
    folder = {"dataset": "dataset", "kernel": "submission"}[kind]
    return json.loads((root / "kernels" / folder / f"{kind}-metadata.json").read_text())


# The kernel


@pytest.mark.slow
@pytest.mark.parametrize("kernel_type", ["notebook", "script"])
def test_the_same_bundle_gives_the_same_bytes_whatever_the_kernel(root, kernel_type):
    folders = []
    for _ in range(2):
        done = package(root, f"package.kernel_type={kernel_type}")
        assert done.returncode == 0, done.stderr
        folders.append(content(root / "kernels"))
    assert folders[0] == folders[1]


def test_the_commit_is_that_of_the_code_also_where_results_lie_in_another_repository(root):
    for arguments in (["init", "-q"], ["commit", "--allow-empty", "-qm", "another"]):
        git(root, *arguments)
    assert package(root).returncode == 0
    origin = metadata_of(root, "kernel")["provenance"]
    assert {key: origin[key] for key in ("commit", "uncommitted")} == commit(PROJECT)


def test_wheels_are_stored_uncompressed(project):
    """Builds of zlib compress the same content to different bytes."""
    for path in (project / "kernels/dataset").glob("*.whl"):
        assert {entry.compress_type for entry in zipfile.ZipFile(path).infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.slow
def test_a_script_carries_the_same_code_and_origin_and_scores(project, root):
    """Packaged, rehearsed, pushed by the real client, run with what was uploaded, submitted."""
    shared = ["competition=sample", "package.owner=tester", f"paths.raw={project}/data/raw/sample"]
    assert package(root, "package.kernel_type=script").returncode == 0
    kernel = metadata_of(root, "kernel")
    assert (kernel["kernel_type"], kernel["code_file"]) == ("script", "submission.py")
    written = (root / "kernels/submission/submission.py").read_text()
    assert json.loads(written.splitlines()[-1].removeprefix("# provenance: ")) == kernel["provenance"]
    done = run_module("rehearse", *shared, "rehearse.images=100", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    raw = project / "data/raw/sample"
    with local_kaggle(competition="sample", run=in_sandbox("sample", raw, raw)) as kaggle:
        quick = [f"submit.{key}=0.01" for key in ("poll_s", "backoff_s")]
        kaggle.fail("SaveKernel", 502, after=True)
        for expected in (1, 0):
            submit = ("submit", *shared, "competition.synthetic=false", *quick)
            done = run_module(*submit, cwd=root, **environment(root, kaggle))
            assert done.returncode == expected, done.stdout + done.stderr
        assert kaggle.requests.count("SaveKernel") == 1, "it knows its own source again"
    (version,) = kaggle.kernels["tester/sample-submission"]
    assert version.saved["kernelType"] == "script" and version.saved["text"] == written
    assert (root / "reports/kaggle-submission.csv").read_text() == (
        project / "reports/rehearsal/submission.csv"
    ).read_text()


def test_the_kernel_has_at_most_fifty_lines_and_prints_versions_first(project):
    cells = json.loads((PROJECT / NOTEBOOK).read_text())["cells"]
    _, first, *others = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len([line for line in "\n".join([first, *others]).splitlines() if line.strip()]) <= 50
    named = set(re.findall(r'"([a-z]+)"', re.search(r"^image = (.*)$", first, re.MULTILINE)[1]))
    assert named == set(imported_distributions(MODULES, "plant_pathology")) - {"timm"}, (
        "what it says is what it imports"
    )


def script(folder: Path, bundle: str = "") -> Path:
    """Write the kernel as a script that takes the bundle with this hash."""
    path = folder / "submission.py"
    notebook = json.loads((PROJECT / NOTEBOOK).read_text())
    constants = {"COMPETITION": "sample", "BUNDLE": bundle, "SECONDS": 1}
    path.write_text(as_script(with_constants(notebook, constants), {}))
    return path


def interpreter(python: str) -> str:
    """Of that version: this one, or one on PATH or of pyenv."""
    installed = map(str, Path.home().glob(f".pyenv/versions/{python}.*/bin/python"))
    for path in filter(None, [sys.executable, shutil.which(f"python{python}"), *installed]):
        asked = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == python:
            return path
    pytest.skip(f"no Python {python} is at hand, on PATH or in ~/.pyenv")


@pytest.mark.parametrize("python", PYTHONS)
def test_the_kernel_runs_on_every_python_of_kaggle_s_images(project, tmp_path, python):
    """It compiles; with no package installed it prints that, finds bundle and wheels, and imports from the wheels."""
    path = interpreter(python)
    program = "import sys; [compile(open(name).read(), name, 'exec') for name in sys.argv[1:]]"
    kernel = script(tmp_path, file_hash(project / "kernels/dataset/bundle.json"))
    done = subprocess.run([path, "-c", program, *MODULES, kernel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.copytree(project / "kernels/dataset", tmp_path / "input/sample-bundle")
    shutil.copytree(project / "data/raw/sample", tmp_path / "input/sample")
    inputs = {"KAGGLE_INPUT": str(tmp_path / "input"), "KAGGLE_WORKING": str(tmp_path)}
    done = subprocess.run([path, "-I", "-S", kernel], env=inputs, capture_output=True, text=True)
    runs_on, brought = done.stdout.splitlines()
    assert runs_on.startswith(f"Python {python}.") and "no torch no numpy" in runs_on
    assert re.fullmatch(r"brought along: plant_pathology-\S+\.whl timm-\S+\.whl", brought)
    assert re.search(r"plant_pathology-[^/]+\.whl/plant_pathology/inference/judgement\.py", done.stderr)
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'numpy'\n")


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "ruff", "check", "--isolated", "--select=E9", "--target-version=py310"],
        ["-c", "import vermin; vermin.main()", "--target=3.10-", "--violations"],
    ],
    ids=["syntax", "library"],
)
def test_the_kernel_uses_nothing_that_the_oldest_python_lacks(tmp_path, command):
    done = subprocess.run([sys.executable, *command, *MODULES, script(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# What is brought along


def test_the_kernel_s_wheel_requires_what_it_imports(project):
    own, timm = sorted(wheels_in(project / "kernels/dataset"), key=lambda wheel: wheel.name)
    assert own.requires == ["numpy", "pandas", "pillow", "safetensors", "timm", "torch", "tqdm"]
    assert own.metadata["Requires-Python"] == ">=3.10" and timm.version == metadata.version("timm")


@pytest.mark.parametrize(
    "about, reason",
    [
        ("Requires-Python: >=3.11", r"brought 1.0 refuses Python 3\.10, which"),
        ("Requires-Python: <3.13", r"brought 1.0 refuses Python 3\.13, which"),
        ("Requires-Dist: einops>=0.6", "requires einops, which .* add it to BROUGHT"),
        ('Requires-Dist: tomli; python_version < "3.11"', "requires tomli"),
        ('Requires-Dist: uvloop; sys_platform == "linux"', "requires uvloop"),
        ("Requires-Dist: Other_Brought", None),
        ("Requires-Dist: NumPy>=1", None),
        ('Requires-Dist: pytest; extra == "test"', None),
        ('Requires-Dist: pywin32; sys_platform == "win32"', None),
        ('Requires-Dist: old; python_version < "3.10"', None),
    ],
)
def test_a_wheel_that_would_not_work_on_kaggle_is_refused(tmp_path, about, reason):
    # Where it is imported, as MLflow does, the backport answers for the standard library, and raises on what is absent.
    pytest.importorskip("importlib_metadata")
    for name, lines in (("brought", about), ("other_brought", "Summary: of no demands")):
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}\n"
        write_wheel(name, "1.0", {f"{name}-1.0.dist-info/METADATA": text.encode()}, tmp_path)
    if reason is None:
        check_wheels(wheels_in(tmp_path), {"numpy"})
    else:
        with pytest.raises(UserError, match=reason):
            check_wheels(wheels_in(tmp_path), {"numpy"})


@pytest.mark.slow
def test_an_import_missing_from_kaggle_stops_package_and_keeps_the_previous_folders(root):
    for name in ("conf", "notebooks", "src"):
        shutil.copytree(PROJECT / name, root / name)
    with (root / "src/plant_pathology/inference/decision.py").open("a", encoding="utf-8") as module:
        module.write("\n\ndef f1():\n    from sklearn.metrics import f1_score\n\n    return f1_score\n")
    change_bundle(root / "models/best", code=folder_hash(root / "src/plant_pathology/inference", "*.py"))
    before = content(root / "kernels")
    done = run_module("package", "competition=sample", "package.owner=tester", cwd=root, PYTHONPATH=str(root / "src"))
    assert done.returncode == 1 and "requires scikit-learn, which Kaggle's image is not known to have" in done.stderr
    assert content(root / "kernels") == before


# Kaggle's rules


@pytest.mark.parametrize(
    "competition", ["UBC-OCEAN", "AI4Code", "a-Competition-with-so-many-words-in-its-name-that-few-fit"]
)
def test_kaggle_takes_the_names_that_follow_from_the_competition_s(competition):
    for kind, ending in (("dataset", "bundle"), ("kernel", "submission")):
        slug = default_slug(competition, ending)
        assert list(name_problems({"id": f"tester/{slug}", "title": title_of(slug)}, kind)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "override, reason",
    [
        ("package.dataset=tiny", "dataset-metadata.json: id=tester/tiny: set package.dataset to 6 to 50"),
        (f"package.dataset={'a' * 51}", "set package.dataset"),
        ("package.kernel=tiny", "kernel-metadata.json: id=tester/tiny: set package.kernel to 5 to 50"),
        (f"package.kernel={'a' * 51}", "set package.kernel"),
        ("package.kernel=two--hyphens", "set package.kernel"),
        ("package.owner=no/slash", "set package.owner"),
        ("package.kernel_type=rmarkdown", "choose one of notebook, script"),
        ("package.licence=MIT", "set package.licence to one of CC0-1.0"),
        ("package.accelerator=NvidiaTeslaP100", "package.accelerator=NvidiaTeslaP100: choose one of cpu, Nvidia"),
    ],
)
def test_settings_that_kaggle_would_refuse_are_refused_and_the_previous_folders_are_kept(root, override, reason):
    before = content(root / "kernels")
    done = package(root, override)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert reason in done.stderr and content(root / "kernels") == before


def many_files(kernels):
    for number in range(50):
        (kernels / f"dataset/{number}.safetensors").touch()


def two_hundred_gigabytes(kernels):
    with (kernels / "dataset/large.safetensors").open("wb") as file:
        file.truncate(200 * 10**9)


def a_megabyte_of_source(kernels):
    with (kernels / "submission/submission.ipynb").open("a") as file:
        file.write(" " * 10**6)


def no_kernelspec(kernels):
    path = kernels / "submission/submission.ipynb"
    path.write_text(path.read_text().replace("kernelspec", "kernel"))


@pytest.mark.parametrize(
    "change, reason",
    [
        (many_files, r"dataset/ has 5\d files; Kaggle allows 50"),
        (two_hundred_gigabytes, "dataset/ has 200 GB; Kaggle allows 200"),
        (a_megabyte_of_source, r"submission.ipynb has 10\d+ bytes; Kaggle allows 1000000"),
        (no_kernelspec, "no notebook with metadata.kernelspec.name"),
        (lambda kernels: edit(kernels, "dataset", licenses=[]), r"licenses=\[\]: set package.licence"),
        (lambda kernels: edit(kernels, "dataset", licenses=[{"name": "MIT"}]), "set package.licence"),
        (lambda kernels: edit(kernels, "dataset", license="other"), "license is no key"),
        (lambda kernels: edit(kernels, "dataset", title=7), "title=7 is no str"),
        (lambda kernels: edit(kernels, "dataset", title="sample bundles"), "Kaggle makes the slug of the title"),
        (lambda kernels: edit(kernels, "dataset", title=f"{'sample bundle':!<51}"), "has 51 characters"),
        (lambda kernels: edit(kernels, "kernel", kernel_type="script"), "code_file=submission.ipynb is no script"),
        (lambda kernels: edit(kernels, "kernel", kernel_type="app"), "choose one of notebook, script"),
        (lambda kernels: edit(kernels, "kernel", language="r"), "language=r is not python"),
    ],
)
def test_folders_edited_by_hand_are_checked_by_the_same_rules(root, change, reason):
    Package.read(root / "kernels", "sample")
    change(root / "kernels")
    with pytest.raises(UserError, match=reason):
        Package.read(root / "kernels", "sample")


def edit(kernels, kind, **changed):
    path = kernels / {"dataset": "dataset", "kernel": "submission"}[kind] / f"{kind}-metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


# The model card


def test_the_model_card_names_data_score_networks_use_and_license(project):
    spec = json.loads((project / "models/best/bundle.json").read_text())
    card = (project / "kernels/dataset/README.md").read_text()
    for fact in (
        spec["title"],
        "drawn images, not on photographs",
        *spec["answers"]["labels"],
        f"{spec['data']['ref']}, sha256 {spec['data']['sha256']}",
        f"sample_f1 {spec['score']['validation']:.4f}",
        "neither its networks nor its thresholds were fitted to",
        "## Intended use",
        "other, since no single license covers everything",
        f"plant_pathology {metadata.version('plant_pathology')} (MIT)",
        f"timm {metadata.version('timm')} (Apache-2.0)",
    ):
        assert fact in card, fact
    for network, run in zip(spec["members"], spec["runs"], strict=True):
        cells = (network["run"], network["architecture"], network["image_size"], network["views"])
        assert f"| {' | '.join(map(str, cells))} | {network['weight']:.4f} | {run['score']:.4f} |" in card
    described = metadata_of(project, "dataset")
    assert described["description"] == card and described["licenses"] == [{"name": "other"}]


@pytest.mark.slow
def test_the_model_card_of_real_images_names_rules_and_pretrained_weights(root):
    spec = json.loads((root / "models/best/bundle.json").read_text())
    runs, score = spec["runs"], spec["score"] | {"metric": "accuracy"}
    runs[0]["config"]["model"]["pretrained"] = True
    change_bundle(root / "models/best", synthetic=False, kind="one", runs=runs, score=score)
    one = ["competition.target.kind=one", "competition.metric=accuracy"]
    done = package(root, "package.licence=CC-BY-NC-4.0", *one)
    assert done.returncode == 0, done.stderr
    card = (root / "kernels/dataset/README.md").read_text()
    for fact in (
        "Output: one of 6 labels: complex, ",
        "whose rules say",
        "timm's pretrained weights",
        "\nCC-BY-NC-4.0.\n",
    ):
        assert fact in card, fact
    assert "drawn" not in card.partition("\n")[2] and metadata_of(root, "dataset")["licenses"][0]["name"] in card


def test_a_package_that_was_installed_without_a_wheel_is_named_with_the_remedy(tmp_path, monkeypatch):
    """As by the pip of Debian 12, where a package has no wheel to download."""
    (tmp_path / "old_package-1.0.egg-info").mkdir()
    (tmp_path / "old_package-1.0.egg-info/PKG-INFO").write_text(
        "Metadata-Version: 1.0\nName: old-package\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"--use-pep517 --force-reinstall --no-deps old-package==1\.0$"):
        wheel_of_installed("old-package", tmp_path)
