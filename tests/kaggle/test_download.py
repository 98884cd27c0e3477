"""`make download`: the real kaggle client against a fake Kaggle on this machine."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator

import pytest
from filelock import FileLock

from plant_pathology.choose import with_choice
from plant_pathology.kaggle.download import status_in
from support.commands import PROJECT, on_a_small_disk, run_in, run_module
from support.local_kaggle import SECRET, LocalKaggle, environment, local_kaggle, zipped

NAME = "plant-pathology-2021-fgvc8"


def archive(**changed: bytes) -> bytes:
    content = {"train.csv": b"image,labels\n", "train_images/a.jpg": b"leaf" * 5000, **changed}
    return zipped(content, zipfile.ZIP_STORED)


@pytest.fixture
def kaggle() -> Iterator[LocalKaggle]:
    with local_kaggle(competition=NAME, archive=archive()) as local:
        yield local


def download(root, kaggle=None, **changed):
    return run_module("download", f"competition={NAME}", cwd=root, **environment(root, kaggle, **changed))


def test_the_archive_is_unpacked_where_the_pipeline_finds_it(kaggle, tmp_path):
    done = download(tmp_path, kaggle)
    assert done.returncode == 0, done.stdout + done.stderr
    raw = tmp_path / "data/raw" / NAME
    assert (raw / "train_images/a.jpg").read_bytes() == b"leaf" * 5000 and (raw / "train.csv").exists()
    assert [path.name for path in (tmp_path / "data/raw").iterdir()] == [NAME]
    assert SECRET not in done.stdout + done.stderr


def test_a_downloaded_competition_is_not_downloaded_again(kaggle, tmp_path):
    assert download(tmp_path, kaggle).returncode == 0
    asked = len(kaggle.requests)
    assert "already downloaded" in download(tmp_path, kaggle).stdout and len(kaggle.requests) == asked


def test_without_credentials_the_error_names_the_ways_to_get_them(tmp_path):
    done = download(tmp_path, KAGGLE_USERNAME="", KAGGLE_KEY="")
    assert done.returncode == 1 and "create an API token" in done.stderr
    assert f"run `make download COMPETITION={NAME}` again" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "chosen, arguments, downloaded",
    [
        ("sample", [], NAME),
        ("leaf-classification", [], "leaf-classification"),
        ("leaf-classification", ["COMPETITION=imet-2020-fgvc7"], "imet-2020-fgvc7"),
    ],
)
def test_the_chosen_competition_is_downloaded_unless_another_is_named(tmp_path, chosen, arguments, downloaded):
    shutil.copy(PROJECT / "Makefile", tmp_path)
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    choices = tmp_path / "conf/choices.yaml"
    choices.write_text(with_choice(choices.read_text(), "competition", chosen))
    commands = run_in(tmp_path, "make", "--dry-run", "-o", ".venv/ready", "download", *arguments)
    assert f"download competition={downloaded}\n" in commands and f"choose data/raw/{downloaded}\n" in commands


def test_commands_on_a_competition_that_is_not_chosen_name_the_one_to_download(tmp_path):
    for command in ("prepare", "sample"):
        done = run_module(command, "competition=leaf-classification", cwd=tmp_path)
        assert done.returncode == 1 and "make download COMPETITION=leaf-classification" in done.stderr


@pytest.mark.parametrize(
    "status, remedy",
    [
        (401, "create a new one"),
        (403, f"accept its rules on https://www.kaggle.com/competitions/{NAME}/rules"),
        (404, "there is no such competition"),
        (500, f"see its output above (500); run `make download COMPETITION={NAME}` again"),
        (
            (403, "The terms are not signed"),
            "(403) join the competition and accept its rules on https://www.kaggle.com",
        ),
        ("drop", f"see its output above; run `make download COMPETITION={NAME}` again"),
    ],
)
def test_a_refusal_is_one_error_with_the_remedy(kaggle, tmp_path, status, remedy):
    kaggle.fail("DownloadDataFiles", status, times=9)
    done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "Traceback (most" not in done.stderr.rpartition("error: ")[2]
    assert remedy in done.stderr and SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "data/raw" / NAME).exists()


def test_no_number_of_a_line_is_taken_for_a_status():
    assert status_in('File "urllib3/connection.py", line 555, in connect\nConnectionError: [Errno 403] refused') is None
    assert status_in("403 Client Error: Forbidden for url: https://api") == 403


def test_a_disk_that_is_full_while_the_archive_is_fetched_is_said_at_once(kaggle, tmp_path, monkeypatch):
    for name, value in environment(tmp_path, kaggle).items():
        monkeypatch.setenv(name, value)
    kaggle.archive = archive(noise=random.Random(0).randbytes(4_000_000))
    settings = (f"competition={NAME}", f"paths.raw=small/raw/{NAME}")
    done = on_a_small_disk("download", *settings, cwd=tmp_path, kilobytes=2_000, afterwards="true")
    assert done.returncode == 1 and len([each for each in kaggle.requests if "archive" in each]) == 1
    assert f"error: No space left on device: small/raw/.{NAME}-download: make room there" in done.stderr


def test_a_damaged_archive_is_not_unpacked_and_is_fetched_again(kaggle, tmp_path):
    whole = archive()
    kaggle.archive = whole.replace(b"leafleaf", b"loafleaf", 1)
    done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "is damaged" in done.stderr and not (tmp_path / "data/raw" / NAME).exists()
    kaggle.archive = whole
    assert download(tmp_path, kaggle).returncode == 0


def test_a_download_that_was_killed_continues_where_it_was(kaggle, tmp_path):
    kaggle.archive = archive(noise=random.Random(0).randbytes(4_000_000))
    kaggle.stall_after = 2_500_000
    command = [sys.executable, "-m", "plant_pathology.download", f"competition={NAME}"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | environment(tmp_path, kaggle), start_new_session=True
    )
    assert kaggle.stalled.wait(60)
    partial = tmp_path / "data/raw" / f".{NAME}-download" / f"{NAME}.zip"
    while not partial.exists() or partial.stat().st_size < 2_000_000:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kaggle.stall_after = None
    assert download(tmp_path, kaggle).returncode == 0
    starts = [int(each.split()[-1]) for each in kaggle.requests if each.startswith("archive")]
    assert max(starts) >= 2_000_000, "the second start asked for the rest alone"
    assert (tmp_path / "data/raw" / NAME / "noise").stat().st_size == 4_000_000


def test_what_was_fetched_before_an_interruption_is_only_unpacked(kaggle, tmp_path):
    kept = tmp_path / "data/raw" / f".{NAME}-download"
    kept.mkdir(parents=True)
    (kept / f"{NAME}.zip").write_bytes(archive())
    assert download(tmp_path, kaggle).returncode == 0 and kaggle.requests == []


@pytest.mark.slow
def test_archives_in_the_archive_are_unpacked_and_a_kill_while_they_are_costs_no_second_download(kaggle, tmp_path):
    rng = random.Random(0)
    images = {f"{number}.jpg": rng.randbytes(1000) for number in range(4000)}
    kaggle.archive = archive(**{"train.zip": zipped(images), "test.zip": zipped(images)})
    command = [sys.executable, "-m", "plant_pathology.download", f"competition={NAME}"]
    raw = tmp_path / "data/raw" / NAME
    inner = raw.with_name(f".{NAME}-download") / "unpacked/train"
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | environment(tmp_path, kaggle)) as process:
        while process.poll() is None and not (inner.exists() and len(os.listdir(inner)) > 20):
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not raw.exists()
    asked = len(kaggle.requests)
    done = download(tmp_path, kaggle)
    assert done.returncode == 0 and len(kaggle.requests) == asked, done.stderr
    assert {path.name for path in raw.iterdir()} == {"train.csv", "train_images", "train", "test"}
    for part in ("train", "test"):
        assert {path.name: path.read_bytes() for path in (raw / part).iterdir()} == images
    assert [path.name for path in raw.parent.iterdir()] == [NAME]


def test_a_damaged_archive_in_the_archive_is_named_and_the_next_start_downloads_again(kaggle, tmp_path):
    whole = zipped({"a.jpg": b"leaf" * 5000})
    kaggle.archive = archive(**{"test.zip": whole[:-10]})
    done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "error: " in done.stderr and "test.zip is damaged" in done.stderr
    assert list((tmp_path / "data/raw").iterdir()) == []
    kaggle.archive = archive(**{"test.zip": whole})
    assert download(tmp_path, kaggle).returncode == 0
    assert (tmp_path / "data/raw" / NAME / "test/a.jpg").read_bytes() == b"leaf" * 5000


def test_a_disk_that_is_too_small_is_one_error_before_the_archive_is_unpacked(kaggle, tmp_path, monkeypatch):
    for name, value in environment(tmp_path, kaggle).items():
        monkeypatch.setenv(name, value)
    kaggle.archive = archive(
        **{"noise": random.Random(0).randbytes(2 * 10**6), "train.zip": zipped({"a": bytes(10**7)})}
    )
    settings = (f"competition={NAME}", f"paths.raw=small/raw/{NAME}")
    done = on_a_small_disk("download", *settings, cwd=tmp_path, kilobytes=10_000, afterwards="find small -type f")
    assert done.returncode == 1 and "train.zip needs 0.0 GB, the disk has 0.0 GB free: make room" in done.stderr
    assert "unpacked/train.zip" in done.stdout and "unpacked/train/a" not in done.stdout


def test_two_downloads_at_once_are_one_error(kaggle, tmp_path):
    kept = tmp_path / "data/raw" / f".{NAME}-download"
    kept.mkdir(parents=True)
    with FileLock(kept / ".lock"):
        done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "another download" in done.stderr and kaggle.requests == []
