"""A command says in one line what a user did wrong, on any system."""

import os
import shutil
import subprocess
import sys

import pytest

from support.commands import PROJECT, run_module


def test_windows_is_refused_with_the_way_out(tmp_path):
    program = "import sys; from plant_pathology.select import main; sys.platform = 'win32'; main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: Windows is not supported: run this in WSL, the Windows Subsystem for Linux\n"


def test_cores_are_counted_where_the_system_has_no_affinity(monkeypatch):
    from plant_pathology.core.processes import cpu_count

    limited = cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert 1 <= limited <= cpu_count() == os.cpu_count()


def test_a_clock_is_there_where_the_system_has_none_that_counts_sleep(monkeypatch):
    import time

    from plant_pathology.core.processes import monotonic_awake

    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert monotonic_awake() <= monotonic_awake()
    monkeypatch.delattr(time, "clock_gettime", raising=False)
    assert monotonic_awake() <= monotonic_awake()


def test_a_wrong_choice_names_the_file_that_holds_it(tmp_path):
    (tmp_path / "conf").mkdir()
    for name in ("config.yaml", "params.yaml"):
        (tmp_path / "conf" / name).write_bytes((PROJECT / "conf" / name).read_bytes())
    (tmp_path / "conf/choices.yaml").write_text("competition: [sample\n")
    done = run_module("select", cwd=tmp_path)
    assert done.returncode == 1 and "conf/choices.yaml" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "override", ["machine=abacus", "data.batch_size", "data.bach_size=3", "recipe=", "stop.after=[0"]
)
def test_an_override_that_cannot_be_composed_is_an_error_without_a_traceback(tmp_path, override):
    for full in ("0", "1"):
        done = run_module("select", override, cwd=tmp_path, HYDRA_FULL_ERROR=full)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["plant_pathology"], ["plant_pathology.train", "--help"]])
def test_where_only_the_code_is_installed_a_command_says_in_one_line_what_it_needs(arguments, tmp_path):
    for package in ("plant_pathology", "hydra_plugins"):
        shutil.copytree(PROJECT / "src" / package, tmp_path / "lib" / "site-packages" / package)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib" / "site-packages")}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    says = "has no conf/config.yaml, and only the code is installed: clone the repository, and type this in its folder"
    assert done.stderr == f"error: {tmp_path} {says}\n"


@pytest.mark.parametrize("command", ["plant_pathology", "plant_pathology.look", "plant_pathology.select"])
def test_help_needs_no_docstrings(command):
    command = [sys.executable, "-OO", "-m", command, "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() and "None" not in done.stdout.split("\n")[0], done.stderr
