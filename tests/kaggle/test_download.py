"""`make download`: the real kaggle client against a fake Kaggle on this machine."""

import io
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator

import pytest

from support.commands import run_module
from support.local_kaggle import SECRET, LocalKaggle, environment, local_kaggle

NAME = "plant-pathology-2021-fgvc8"


def archive(**changed: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, text in {"train.csv": b"image,labels\n", "train_images/a.jpg": b"leaf" * 5000, **changed}.items():
            file.writestr(name, text)
    return content.getvalue()


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
    assert done.returncode == 1 and "create an API token" in done.stderr and "make download` again" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "status, remedy",
    [
        (401, "create a new one"),
        (403, f"accept its rules on https://www.kaggle.com/competitions/{NAME}/rules"),
        (404, "there is no such competition"),
        (500, "run `make download` again"),
    ],
)
def test_a_refusal_is_one_error_with_the_remedy(kaggle, tmp_path, status, remedy):
    kaggle.fail("DownloadDataFiles", status, times=9)
    done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "Traceback (most" not in done.stderr.rpartition("error: ")[2]
    assert remedy in done.stderr and SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "data/raw" / NAME).exists()


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
