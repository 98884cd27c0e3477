"""`make download`: the real kaggle client against a Kaggle on this machine."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import run_module

NAME = "plant-pathology-2021-fgvc8"
SECRET = "never-to-be-printed"


def archive(**changed: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, text in {"train.csv": b"image,labels\n", "train_images/a.jpg": b"leaf" * 5000, **changed}.items():
            file.writestr(name, text)
    return content.getvalue()


class LocalKaggle:
    """Answers the client as its http proxy, so that nothing it asks leaves the machine.

    `answer` is the archive, or the status that Kaggle refuses with; `stall_after` sends only so many bytes of it;
    `requests` tells what was asked.
    """

    def __init__(self):
        self.answer: bytes | int = archive()
        self.requests: list[str] = []
        self.stall_after: int | None = None
        self.stalled = threading.Event()
        kaggle = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                kaggle.requests.append(self.path.rpartition("/")[2])
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if isinstance(kaggle.answer, int):
                    self.reply(kaggle.answer, json.dumps({"message": "refused"}).encode())
                elif self.path.endswith("/DownloadDataFiles") and asked == {"competitionName": NAME}:
                    self.reply(302, b"", Location="http://localhost/archive.zip")
                else:
                    self.reply(404, b"{}")

            def do_GET(self):
                asked_range = self.headers.get("Range", "bytes=0-")
                start = int(asked_range.removeprefix("bytes=").rstrip("-"))
                kaggle.requests.append(f"archive from {start}")
                whole = {"Accept-Ranges": "bytes", "Last-Modified": "Mon, 01 Mar 2021 00:00:00 GMT"}
                part = {"Content-Range": f"bytes {start}-{len(kaggle.answer) - 1}/{len(kaggle.answer)}"}
                self.reply(206 if start else 200, kaggle.answer[start:], **whole, **(part if start else {}))

            def do_CONNECT(self):
                self.reply(403, b"")

            def reply(self, status, body, **headers):
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body[: kaggle.stall_after])
                if kaggle.stall_after and len(body) > kaggle.stall_after:
                    kaggle.stalled.set()
                    time.sleep(30)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def kaggle() -> Iterator[LocalKaggle]:
    local = LocalKaggle()
    yield local
    local.server.shutdown()
    local.server.server_close()


def environment(root, kaggle=None, **changed):
    proxy = f"http://127.0.0.1:{kaggle.server.server_port if kaggle else 9}"
    return {
        **{"HOME": str(root), "TMPDIR": str(root), "KAGGLE_API_ENVIRONMENT": "LOCALHOST"},
        **{name: proxy for name in ("http_proxy", "https_proxy")},
        **{name: "" for name in ("no_proxy", "NO_PROXY", "KAGGLE_CONFIG_DIR", "KAGGLE_API_TOKEN")},
        **{"KAGGLE_USERNAME": "tester", "KAGGLE_KEY": SECRET, **changed},
    }


def download(root, kaggle=None, **changed):
    return run_module("download", f"competition={NAME}", cwd=root, **environment(root, kaggle, **changed))


def test_the_archive_is_unpacked_where_the_pipeline_finds_it(kaggle, tmp_path):
    done = download(tmp_path, kaggle)
    assert done.returncode == 0, done.stdout + done.stderr
    raw = tmp_path / "data/raw" / NAME
    assert (raw / "train_images/a.jpg").read_bytes() == b"leaf" * 5000 and (raw / "train.csv").exists()
    assert [path.name for path in (tmp_path / "data/raw").iterdir()] == [NAME]
    assert SECRET not in done.stdout + done.stderr


def test_what_is_there_is_not_downloaded_again(kaggle, tmp_path):
    assert download(tmp_path, kaggle).returncode == 0
    asked = len(kaggle.requests)
    assert "there already" in download(tmp_path, kaggle).stdout and len(kaggle.requests) == asked


def test_without_credentials_it_says_what_to_do(tmp_path):
    done = download(tmp_path, KAGGLE_USERNAME="", KAGGLE_KEY="")
    assert done.returncode == 1 and "make an API token" in done.stderr and "make download` again" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "status, remedy",
    [
        (401, "make a new one"),
        (403, f"accept its rules on https://www.kaggle.com/competitions/{NAME}/rules"),
        (404, "there is no such competition"),
        (500, "run `make download` again"),
    ],
)
def test_a_refusal_is_one_error_with_the_remedy(kaggle, tmp_path, status, remedy):
    kaggle.answer = status
    done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "Traceback (most" not in done.stderr.rpartition("error: ")[2]
    assert remedy in done.stderr and SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "data/raw" / NAME).exists()


def test_a_damaged_archive_is_not_unpacked_and_is_fetched_again(kaggle, tmp_path):
    whole = archive()
    kaggle.answer = whole.replace(b"leafleaf", b"loafleaf", 1)
    done = download(tmp_path, kaggle)
    assert done.returncode == 1 and "is damaged" in done.stderr and not (tmp_path / "data/raw" / NAME).exists()
    kaggle.answer = whole
    assert download(tmp_path, kaggle).returncode == 0


def test_a_download_that_was_killed_continues_where_it_was(kaggle, tmp_path):
    kaggle.answer = archive(noise=random.Random(0).randbytes(4_000_000))
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
