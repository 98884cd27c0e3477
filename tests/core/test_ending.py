"""A command ends in one line for what a user or the system did, and with a traceback for a mistake in the code."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from plant_pathology.core import ending
from plant_pathology.core.errors import UserError
from plant_pathology.core.sealed import write_sealed
from plant_pathology.core.secrets import without_secrets
from plant_pathology.core.text import one_line, plain_console, printable
from plant_pathology.kernel.package import folder_hashes
from support.commands import run_module

MODULE = [sys.executable, "-m"]


@pytest.mark.parametrize(
    "error, expected",
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), "runs/x: Permission denied: change its owner"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: Read-only file system: set paths.root"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "a: Disk quota exceeded: make room within your quota"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "a: Too many open files: raise the limit (ulimit -n"),
        (OSError(errno.ENOLCK, "No locks available"), f"in {os.getcwd()}: No locks available: this disk has no locks"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), "a: File name too long: shorten the name"),
        (
            OSError(errno.EIO, "Input/output error", "a\x1b[2Jb\nc"),
            r"a\x1b[2Jb c: Input/output error: the disk reports",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "runs"), "runs: File exists: a file, or a link to nothing, is"),
        (RuntimeError("Could not determine home directory."), "the home folder of this user is not known: set HOME"),
        (MemoryError(), "memory ran out (MemoryError): lower data.batch_size"),
        (
            RuntimeError("CUDA out of memory. Tried 2 GiB"),
            "memory ran out (CUDA out of memory. Tried 2 GiB): lower data",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory ran out (DefaultCPUAllocator"),
        (ModuleNotFoundError("No module", name="optuna"), "the package optuna is not installed: pip install"),
        (UserError("a\n  b"), "a\n  b"),
        (KeyError("x"), None),
        (RuntimeError("a mistake"), None),
        (ModuleNotFoundError("No module", name="plant_pathology.nope"), None),
    ],
)
def test_what_the_system_did_has_a_remedy_and_a_mistake_in_the_code_has_none(error, expected):
    line = ending.explain(error)
    assert line is expected if expected is None else line.startswith(expected)


def test_a_mistake_in_the_code_still_shows_its_traceback(tmp_path):
    program = "from plant_pathology.core.app import command\n@command\ndef main(cfg): cfg.seed.nope\nmain()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr and "nope" in done.stderr


def test_closed_input_and_output_lead_nowhere(tmp_path):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from plant_pathology.core.ending import program\n"
        "@program\n"
        "def main():\n"
        "    with open('file', 'w') as file:\n"
        "        print('out'), print('err', file=sys.stderr), os.write(2, b'of a library')\n"
        "main()\n"
    )
    shell = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_the_log_is_bounded_and_holds_no_secrets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    for _ in range(30):
        assert ending.keep_traceback(OSError("https://me:pass@host 0123456789abcdef" + "x" * 100_000)) == ending.LOG
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) < 2.5 * ending.LOG_BYTES
    text = ending.LOG.read_text()
    assert "https://me:***@host ***x" in text and "0123456789abcdef" not in text


def test_without_a_folder_to_write_to_the_log_is_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").touch()
    log = ending.keep_traceback(OSError("x"))
    assert log.is_absolute() and log.exists()


def test_text_of_others_cannot_move_the_cursor_or_be_read_as_markup(capsys):
    assert printable("a\x1b[2J\rb\nerror: c\udcc3") == r"a\x1b[2J\rb\nerror: c\udcc3"
    assert printable("two\n  lines") == "two\n  lines" and one_line("two\n  lines") == "two lines"
    assert without_secrets("s3://bucket/a:b@c") == "s3://bucket/a:b@c"
    plain_console(80).print("[bold]x[/nope] :smile:")
    assert capsys.readouterr().out == "[bold]x[/nope] :smile:\n"


def test_names_and_messages_with_brackets_are_shown_as_they_are(tmp_path):
    folder = tmp_path / "runs" / "x[bold]y-12345678"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"config": {"trainer": {"max_epochs": 3}}}')
    (folder / "failure.txt").write_text("ValueError: [/red] \x1b[2J :warning:\n")
    for verb in ("status", "cost"):
        done = run_module("monitor", verb, cwd=tmp_path)
        assert done.returncode == 0 and "x[bold]y-12345678" in done.stdout and "\x1b" not in done.stdout, done.stderr
    assert r"[/red] \x1b[2J :warning:" in run_module("monitor", "status", cwd=tmp_path).stdout


def test_nobody_reads_the_output(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*MODULE, "plant_pathology.datastore", "ls"], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_the_output_goes_to_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        command = [*MODULE, "plant_pathology.datastore", "ls"]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: in {tmp_path}: No space left on device: make room there")


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 1.5])
def test_ctrl_c_is_one_line_also_while_modules_are_imported(tmp_path, delay):
    program = (
        "import sys, time; sys.orig_argv[:] = sys.argv[:] = ['x']\n"
        "import plant_pathology\nprint('imports', flush=True)\n"
        "if sys.stdin.readline() == 'early\\n': time.sleep(60)\n"
        "from plant_pathology.core.app import command\n"
        "@command\ndef main(cfg):\n    print('runs', flush=True)\n    time.sleep(60)\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        **{"cwd": tmp_path, "stdin": -1, "stdout": -1, "stderr": -1, "text": True},
        # A shell starts what runs in its background without this signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "imports\n"
    process.stdin.write("early\n" if delay < 1 else "late\n")
    process.stdin.flush()
    assert delay < 1 or process.stdout.readline() == "runs\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    # A shell shows both as 130.
    assert process.returncode == (-signal.SIGINT if delay < 1 else 130)
    assert said.startswith("error: interrupted: start it again") and said.count("\n") == 1


def test_an_error_in_a_callback_of_hydra_is_an_error(tmp_path):
    (tmp_path / "runs").write_text("")
    done = run_module("train", "-m", "model=test_resnet", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_locale_without_utf_8_changes_nothing(tmp_path):
    folder = tmp_path / "Größe"
    folder.mkdir()
    # The interpreter itself, because in this locale one in a virtual environment below such a folder cannot start.
    site = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONPATH": site}
    command = [sys._base_executable, "-m", "plant_pathology.select", 'competition.title="Ähre"']
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: runs holds no finished run"), done.stderr
    command = [sys._base_executable, "-m", "plant_pathology.summary", "--verdict"]
    checks, kernels = {"submission": "Ähre fehlt"}, folder_hashes(folder / "kernels")
    write_sealed(folder / "reports/rehearsal.json", {"verdict": "failed", "checks": checks, "sha256": kernels})
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and r"submission: \xc4hre fehlt" in done.stderr, done.stderr
