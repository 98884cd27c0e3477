"""A fake Kaggle server on this machine for the real client; docs/submit.md lists what it assumes about Kaggle.

It is also the client's HTTP proxy, so that no request leaves the machine.
"""

import base64
import io
import json
import os
import re
import signal
import socket
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from plant_pathology.kernel.sandbox import run_kernel

SECRET = "never-to-be-printed"


def environment(root, kaggle: "LocalKaggle | None" = None, **changed: str) -> dict[str, str]:
    """Return variables that make the client use this server, or none, and keep its files in `root`."""
    proxy = f"http://127.0.0.1:{kaggle.server.server_port if kaggle else 9}"
    return {
        **{"HOME": str(root), "TMPDIR": str(root), "KAGGLE_API_ENVIRONMENT": "LOCALHOST"},
        **{name: proxy for name in ("http_proxy", "https_proxy")},
        **{name: "" for name in ("no_proxy", "NO_PROXY", "KAGGLE_CONFIG_DIR", "KAGGLE_API_TOKEN")},
        **{"KAGGLE_USERNAME": "tester", "KAGGLE_KEY": SECRET, **changed},
    }


def zipped(content: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive of files by name, as Kaggle ships a competition."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as file:
        for name, text in content.items():
            file.writestr(name, text)
    return whole.getvalue()


class Refused(Exception):
    def __init__(self, status: int, message: str):
        self.status, self.message = status, message


@dataclass
class Fault:
    """A failure to inject into a request.

    Args:
        method: name of the API method; "PUT <file>" for an upload, "GET" for the download of an output.
        kind: a status, a status with a message, a whole reply, or "drop", "stall", "kill".
        after: whether the server carries out the request first.
        times: how many requests fail.
        headers: of the reply.
    """

    method: str
    kind: Any
    after: bool
    times: int
    headers: dict[str, str]


@dataclass
class Run:
    """A version of a kernel: what was saved, its datasets, and its result."""

    saved: dict[str, Any]
    datasets: dict[str, dict[str, bytes]]
    polls: int
    unseen: int = 0
    output: dict[str, bytes] | None = None
    log: str = ""
    error: str | None = None


@dataclass
class LocalKaggle:
    """The server and its state; the fields configure its behavior.

    Args:
        competition: the only one; others are 404.
        run: runs a kernel: (version, whether on the hidden test set) -> (files, log, error or None).
        score: submission.csv -> score.
        *_polls: number of requests until something is ready, has run, is listed, is scored.
        tells_limits, tells_kernel_numbers: whether Kaggle fills in these fields.
        renamed, dropped: another slug for a pushed kernel; whether it silently loses its datasets.
        unseen: number of requests about a new dataset, kernel or its output that are answered as if it did not exist.
        absent: 403 or 404, the answer to those.
        hidden_files: names that the list of a dataset lacks.
        spelled: how names of sources come back: a text with {source}, or a function.
        assigned: what is told of a kernel in the place of what was pushed, by the API's names; None: nothing.
        without: requests that the server does not know: 404.
        no_logs: whether the log of a kernel that failed is refused with 403.
        gpu_hours: used and allowed this week.
        form: the competition's form, which is then given alone.
        tokens: other secrets that are accepted as tokens.
        kernels_only: whether the competition takes notebooks only.
        proxy_refuses: whether the server, as the client's proxy, answers 407.
        renew: the token that a login is renewed to; None: it is refused.
        kill_at: number of the request that kills `victim`, and whether after it was carried out.
        victim: id of the process that a "kill" ends.
        requests: names of the methods requested, in order.
    """

    competition: str = "plant-pathology-2021-fgvc8"
    run: Callable[[Run, bool], tuple[dict[str, bytes], str, str | None]] = lambda version, hidden: ({}, "", None)
    score: Callable[[bytes], str] = lambda output: "0.5"
    dataset_polls: int = 2
    kernel_polls: int = 2
    listing_polls: int = 0
    score_polls: int = 2
    daily_limit: int = 5
    tells_limits: bool = True
    tells_kernel_numbers: bool = True
    joined: bool = True
    renamed: str | None = None
    dropped: bool = False
    upload_cut: int | None = None
    unseen: int = 0
    absent: int = 403
    hidden_files: set[str] = field(default_factory=set)
    spelled: str | Callable[[str], str] = "{source}"
    assigned: dict[str, str | None] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    no_logs: bool = False
    gpu_hours: tuple[float, float] | None = None
    form: bytes | None = None
    tokens: set[str] = field(default_factory=set)
    kernels_only: bool = False
    proxy_refuses: bool = False
    renew: str | None = None
    kill_at: tuple[int, bool] | None = None
    archive: bytes = b""
    stall_after: int | None = None
    victim: int | None = None
    requests: list[str] = field(default_factory=list)
    asked: list[tuple[str, dict]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    datasets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    kernels: dict[str, list[Run]] = field(default_factory=dict)
    submissions: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        self.stalled = threading.Event()
        self.lock = threading.RLock()
        self.blobs: dict[str, dict[str, Any]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        self.server.handle_error = lambda *arguments: None  # a client that was killed
        self.server.block_on_close = False
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def is_kill_point(self, after: bool) -> bool:
        """Return whether to kill the victim before, or after, the latest request is carried out."""
        return self.kill_at == (len(self.requests), after)

    def fail(self, method: str, kind: Any, after: bool = False, times: int = 1, **headers: str) -> None:
        self.faults.append(Fault(method, kind, after, times, headers))

    def take_fault(self, method: str, after: bool) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.after == after and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def IntrospectToken(self, asked):
        return {"active": asked["token"] in {SECRET, *self.tokens}, "username": "tester"}

    def GenerateAccessToken(self, asked):
        """Renew a login, whose old token is then refused."""
        if self.renew is None:
            raise Refused(401, "The refresh token has expired")
        self.tokens = {self.renew}
        return {"token": self.renew, "expiresIn": 43200}

    def GetAcceleratorQuotaStatistics(self, asked):
        if self.gpu_hours is None:
            raise Refused(404, "Not found")
        used, allowed = (f"{int(hours * 3600)}s" for hours in self.gpu_hours)
        gpu = {"timeUsed": used, "totalTimeAllowed": allowed}
        return {"quotaRefreshTime": "2026-12-05T00:00:00Z", "gpuQuota": gpu}

    def see(self, thing: dict[str, Any] | Run) -> None:
        """Refuse a request about something that was just made."""
        unseen = thing["unseen"] if isinstance(thing, dict) else thing.unseen
        if unseen > 0:
            if isinstance(thing, dict):
                thing["unseen"] -= 1
            else:
                thing.unseen -= 1
            raise Refused(self.absent, "Permission 'get' was denied")

    def spell(self, source: str) -> str:
        return self.spelled(source) if callable(self.spelled) else self.spelled.format(source=source)

    # Datasets

    def GetDataset(self, asked):
        versions = self.dataset_of(asked)
        return {
            "ref": ref_of(asked),
            "currentVersionNumber": len(versions),
            "versions": [{"versionNumber": n, "versionNotes": v["notes"]} for n, v in enumerate(versions, 1)],
        }

    def GetDatasetStatus(self, asked):
        latest = self.dataset_of(asked)[-1]
        latest["polls"] -= 1
        return {"status": "READY" if latest["polls"] < 0 else "BLOBS_RECEIVED"}

    def ListDatasetFiles(self, asked):
        names = sorted({*self.dataset_of(asked)[-1]["files"]} - self.hidden_files)
        start = int(asked.get("pageToken") or 0)
        page = {"datasetFiles": [{"name": name} for name in names[start : start + 2]]}
        return page | ({"nextPageToken": str(start + 2)} if start + 2 < len(names) else {})

    def StartBlobUpload(self, asked):
        token = f"blob-{len(self.blobs)}"
        self.blobs[token] = {"name": asked["name"], "size": asked.get("contentLength", 0), "content": b""}
        return {"token": token, "createUrl": f"http://localhost/upload/{token}"}

    def CreateDataset(self, asked):
        ref = f"{asked['ownerSlug']}/{asked['slug']}"
        self.own(asked["ownerSlug"])
        if ref in self.datasets:
            return {"status": "error", "error": f"The requested title {asked['title']!r} is already in use"}
        self.datasets[ref] = [self.dataset_version(asked["files"], "Initial release")]
        return {"status": "ok", "ref": ref, "url": f"http://localhost/datasets/{ref}"}

    def CreateDatasetVersion(self, asked):
        self.own(asked["ownerSlug"])
        body = asked["body"]
        if ref_of(asked) not in self.datasets:
            raise Refused(404, "Not found")
        self.datasets[ref_of(asked)].append(self.dataset_version(body["files"], body["versionNotes"]))
        return {"status": "ok", "url": f"http://localhost/datasets/{ref_of(asked)}"}

    def dataset_version(self, files, notes):
        blobs = [self.blobs[file["token"]] for file in files]
        content = {blob["name"]: blob["content"] for blob in blobs}
        return {"notes": notes, "polls": self.dataset_polls, "unseen": self.unseen, "files": content}

    def dataset_of(self, asked):
        if ref_of(asked) not in self.datasets:
            raise Refused(self.absent, "Permission 'datasets.get' was denied")
        self.see(self.datasets[ref_of(asked)][-1])
        return self.datasets[ref_of(asked)]

    def own(self, owner):
        if owner != "tester":
            raise Refused(403, "Permission was denied")

    # Kernels

    def SaveKernel(self, asked):
        owner, slug = asked["slug"].split("/")
        self.own(owner)
        ref = f"{owner}/{self.renamed or slug}"
        sources = asked.get("datasetDataSources", [])
        attached = {} if self.dropped else {s: self.datasets[s][-1]["files"] for s in sources if s in self.datasets}
        self.kernels.setdefault(ref, []).append(Run(asked, attached, self.kernel_polls, self.unseen))
        answer = {"ref": f"/code/{ref}", "url": f"http://localhost/code/{ref}"}
        answer["versionNumber"] = len(self.kernels[ref])
        answer["invalidDatasetSources"] = [source for source in sources if source not in self.datasets]
        answer["invalidCompetitionSources"] = [
            s for s in asked.get("competitionDataSources", []) if s != self.competition
        ]
        return answer

    def GetKernel(self, asked):
        runs = self.kernel_of(asked)
        saved = runs[-1].saved
        same = (
            "isPrivate",
            "enableGpu",
            "enableTpu",
            "enableInternet",
            "language",
            "kernelType",
            "machineShape",
            "dockerImage",
        )
        return {
            "metadata": {
                "ref": ref_of(asked),
                "currentVersionNumber": len(runs) if self.tells_kernel_numbers else None,
                "datasetDataSources": [self.spell(source) for source in runs[-1].datasets],
                "competitionDataSources": [self.spell(source) for source in saved.get("competitionDataSources", [])],
                **{key: saved[key] for key in same if key in saved},
                **self.assigned,
            },
            "blob": {"source": reformat(saved["text"], saved["kernelType"]), "slug": ref_of(asked)},
        }

    def GetKernelSessionStatus(self, asked):
        run = self.kernel_of(asked)[-1]
        run.polls -= 1
        if run.polls >= 0:
            return {"status": "RUNNING" if run.polls < self.kernel_polls - 1 else "QUEUED"}
        self.finish(run)
        return {"status": "ERROR", "failureMessage": run.error} if run.error else {"status": "COMPLETE"}

    def ListKernelSessionOutput(self, asked):
        run, ref = self.kernel_of(asked)[-1], ref_of(asked)
        if run.error and self.no_logs:
            raise Refused(403, "Permission 'kernelSessions.get' was denied")
        files = [{"fileName": n, "url": f"http://localhost/output/{ref}/{n}"} for n in run.output or {}]
        return {"files": files, "log": json.dumps([{"stream_name": "stdout", "time": 1, "data": run.log}])}

    def finish(self, run):
        if run.output is None:
            run.output, run.log, run.error = self.run(run, False)

    def kernel_of(self, asked):
        if ref_of(asked) not in self.kernels:
            raise Refused(self.absent, "Permission 'kernels.get' was denied")
        self.see(self.kernels[ref_of(asked)][-1])
        return self.kernels[ref_of(asked)]

    # Competition

    def GetCompetition(self, asked):
        self.only_competition(asked)
        return {
            "ref": self.competition,
            "userHasEntered": self.joined,
            "maxDailySubmissions": self.daily_limit,
            "isKernelsSubmissionsOnly": self.kernels_only,
        }

    def GetSubmission(self, asked):
        (found,) = [
            each
            for each in self.ListSubmissions({"competitionName": self.competition})["submissions"]
            if each["ref"] == asked["ref"]
        ] or [None]
        if found is None:
            raise Refused(404, "Not found")
        return found

    def GetSubmissionLimits(self, asked):
        self.only_competition(asked)
        used = len(self.submissions)
        return {"numToday": used, "numAllowedNow": max(0, self.daily_limit - used)} if self.tells_limits else {}

    def ListSubmissions(self, asked):
        self.only_competition(asked)
        for each in self.submissions:
            if "output" not in each:
                continue
            each["unlisted"] -= 1
            if each["unlisted"] < 0:
                each["polls"] -= 1
            if each["polls"] < 0 and each["status"] == "PENDING":
                files, _, error = each["output"]()
                failed = {"status": "ERROR", "errorDescription": "Submission Scoring Error"}
                scored = failed if error else {"status": "COMPLETE", "publicScore": self.score(files["submission.csv"])}
                each.update(scored)
        listed = [each for each in reversed(self.submissions) if each.get("unlisted", -1) < 0]
        return {
            "submissions": [{k: v for k, v in e.items() if k not in ("output", "polls", "unlisted")} for e in listed]
        }

    def CreateCodeSubmission(self, asked):
        self.only_competition(asked)
        runs = self.kernels[f"{asked['kernelOwner']}/{asked['kernelSlug']}"]
        run = runs[asked["kernelVersion"] - 1]
        if run.saved.get("enableInternet") or self.competition not in run.saved["competitionDataSources"]:
            raise Refused(400, "Your Notebook cannot use internet access in this competition")
        if asked["fileName"] not in (run.output or {}):
            raise Refused(400, "Could not find the output file")
        return self.submitted(asked, asked["fileName"], lambda: self.run(run, True))

    def StartSubmissionUpload(self, asked):
        self.only_competition(asked)
        return self.StartBlobUpload(asked | {"name": asked["fileName"]})

    def CreateSubmission(self, asked):
        self.only_competition(asked)
        blob = self.blobs[asked["blobFileTokens"]]
        if len(blob["content"]) != blob["size"]:
            raise Refused(400, "The file is incomplete")
        return self.submitted(asked, blob["name"], lambda: ({"submission.csv": blob["content"]}, "", None))

    def submitted(self, asked, file, output):
        """Add a submission, whose content is that of `output` when it is scored."""
        if len(self.submissions) >= self.daily_limit:
            raise Refused(400, "You have reached your daily submission limit")
        submission = {
            "ref": 1000 + len(self.submissions),
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "fileName": file,
            "description": asked.get("submissionDescription", ""),
            "status": "PENDING",
        }
        hidden = {"output": output, "polls": self.score_polls, "unlisted": self.listing_polls}
        self.submissions.append(submission | hidden)
        return {"message": "Successfully submitted to Local Kaggle", "ref": submission["ref"]}

    def only_competition(self, asked):
        if asked["competitionName"] != self.competition:
            raise Refused(404, "Not found")

    def DownloadDataFile(self, asked):
        self.only_competition(asked)
        if self.form is None or asked["fileName"] != "sample_submission.csv":
            raise Refused(404, "Not found")

    def DownloadDataFiles(self, asked):
        self.only_competition(asked)
        return None


def reformat(source: str, kernel_type: str) -> str:
    """Format a notebook's JSON differently, as Kaggle may."""
    return json.dumps(json.loads(source), indent=3) if kernel_type == "notebook" else source


def ref_of(asked: dict[str, Any]) -> str:
    owner = asked.get("ownerSlug") or asked.get("userName")
    return f"{owner}/{asked.get('datasetSlug') or asked.get('kernelSlug')}"


def handler_of(kaggle: LocalKaggle) -> type[BaseHTTPRequestHandler]:
    basic = "Basic " + base64.b64encode(f"tester:{SECRET}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            if kaggle.proxy_refuses:
                self.body()
                self.reply(407, b"", Proxy_Authenticate="Basic")
                return
            asked = json.loads(self.body())
            method = self.path.rpartition("/")[2]
            with kaggle.lock:
                kaggle.requests.append(method)
                kaggle.asked.append((method, asked))
                if self.kills(after=False):
                    return
                if (fault := kaggle.take_fault(method, after=False)) and self.fails(fault):
                    return
                try:
                    allowed = (basic, *(f"Bearer {token}" for token in (SECRET, *kaggle.tokens)))
                    if method in kaggle.without:
                        raise Refused(404, "Not found")
                    if (
                        method not in ("IntrospectToken", "GenerateAccessToken")
                        and self.headers["Authorization"] not in allowed
                    ):
                        raise Refused(401, "Unauthenticated")
                    answer = getattr(kaggle, method)(asked)
                except Refused as refused:
                    if self.kills(after=True):
                        return
                    self.reply(refused.status, {"code": refused.status, "message": refused.message})
                    return
                if self.kills(after=True):
                    return
                if (fault := kaggle.take_fault(method, after=True)) and self.fails(fault):
                    return
            if method == "DownloadDataFiles":
                self.reply(302, b"", Location="http://localhost/archive.zip")
            elif method == "DownloadDataFile":
                self.reply(302, b"", Location="http://localhost/sample_submission.csv")
            else:
                self.reply(200, answer)

        def kills(self, after: bool) -> bool:
            """Kill the victim if this is the request; return whether the request ends here."""
            if not kaggle.is_kill_point(after):
                return False
            return self.fails(Fault("", "kill", after, 1, {}))

        def fails(self, fault: Fault) -> bool:
            """Inject the fault; return whether the request ends here."""
            if fault.kind == "kill":
                os.kill(kaggle.victim, signal.SIGKILL)
            if fault.kind == "stall":
                time.sleep(1)
            if fault.kind in ("kill", "drop", "stall"):
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif isinstance(fault.kind, tuple):
                self.reply(fault.kind[0], {"code": fault.kind[0], "message": fault.kind[1]}, **fault.headers)
            elif isinstance(fault.kind, int):
                self.reply(fault.kind, {"message": "refused"}, **fault.headers)
            else:
                self.reply(200, fault.kind)
            return True

        def do_PUT(self):
            """Serve a resumable upload: all bytes, the rest of them, or a query for how many are here."""
            token = self.path.rpartition("/")[2]
            blob = kaggle.blobs[token]
            kaggle.requests.append("PUT")
            length = int(self.headers.get("Content-Length") or 0)
            if self.kills(after=False):
                return
            if (fault := kaggle.take_fault(f"PUT {blob['name']}", after=False)) and self.fails(fault):
                return
            span = re.fullmatch(r"bytes (\*|(\d+)-\d+)/\d+", self.headers.get("Content-Range", ""))
            if span and span[1] == "*" and len(blob["content"]) < blob["size"]:
                known = {"Range": f"bytes=0-{len(blob['content']) - 1}"} if blob["content"] else {}
                self.reply(308, b"", **known)
                return
            if span and span[1] == "*":
                self.reply(200, b"")
                return
            if kaggle.upload_cut:
                blob["content"] = self.rfile.read(kaggle.upload_cut)
                kaggle.upload_cut = None
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            blob["content"] = blob["content"][: int(span[2]) if span else 0] + self.body(length)
            if self.kills(after=True):
                return
            if (fault := kaggle.take_fault(f"PUT {blob['name']}", after=True)) and self.fails(fault):
                return
            self.reply(200 if len(blob["content"]) == blob["size"] else 400, b"")

        def do_GET(self):
            path = self.path.partition("http://localhost/")[2]
            if path == "archive.zip":
                self.send_archive()
                return
            kaggle.requests.append("GET")
            if self.kills(after=False) or self.kills(after=True):
                return
            if path == "sample_submission.csv":
                self.reply(200, kaggle.form, Last_Modified="Mon, 01 Mar 2021 00:00:00 GMT")
                return
            _, owner, slug, name = path.split("/", 3)
            if (fault := kaggle.take_fault("GET", after=False)) and self.fails(fault):
                return
            self.reply(200, kaggle.kernels[f"{owner}/{slug}"][-1].output[name])

        def send_archive(self):
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            kaggle.requests.append(f"archive from {start}")
            whole = {"Accept-Ranges": "bytes", "Last-Modified": "Mon, 01 Mar 2021 00:00:00 GMT"}
            part = {"Content-Range": f"bytes {start}-{len(kaggle.archive) - 1}/{len(kaggle.archive)}"}
            self.reply(206 if start else 200, kaggle.archive[start:], **whole, **(part if start else {}))

        def do_CONNECT(self):
            self.reply(407 if kaggle.proxy_refuses else 403, b"")

        def body(self, length: int | None = None) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content
            return self.rfile.read(int(self.headers["Content-Length"]) if length is None else length)

        def reply(self, status, content, **headers):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            kind = {} if isinstance(content, bytes) else {"Content-Type": "application/json"}
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **kind, **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body[: kaggle.stall_after])
            if kaggle.stall_after and len(body) > kaggle.stall_after:
                kaggle.stalled.set()
                time.sleep(30)

        def log_message(self, *arguments):
            pass

    return Handler


def in_sandbox(competition: str, public: Path, hidden: Path) -> Callable:
    """Return a `run` that runs a pushed kernel in the rehearsal's sandbox, on one of two competition folders."""

    def run(version: Run, on_hidden: bool) -> tuple[dict[str, bytes], str, str | None]:
        with tempfile.TemporaryDirectory() as scratch:
            kernel, working = Path(scratch) / "kernel", Path(scratch) / "working"
            inputs = {f"competitions/{competition}": hidden if on_hidden else public}
            for ref, files in version.datasets.items():
                inputs[f"datasets/{ref}"] = folder = Path(scratch) / ref
                folder.mkdir(parents=True)
                for name, content in files.items():
                    (folder / name).write_bytes(content)
            kernel.mkdir()
            working.mkdir()
            code_file = {"notebook": "kernel.ipynb", "script": "kernel.py"}[version.saved["kernelType"]]
            (kernel / "kernel-metadata.json").write_text(json.dumps({"code_file": code_file}))
            (kernel / code_file).write_text(version.saved["text"])
            outcome = run_kernel(kernel, inputs, working, timeout_s=120)
            written = {path.name: path.read_bytes() for path in working.iterdir() if path.is_file()}
        return written, outcome.log, outcome.error

    return run


@contextmanager
def local_kaggle(**knobs: Any) -> Iterator[LocalKaggle]:
    with closing(LocalKaggle(**knobs)) as kaggle:
        yield kaggle
