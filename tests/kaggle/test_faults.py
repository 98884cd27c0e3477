"""Faults that `submit` and `download` meet at Kaggle, each through the real client against a local server."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from support.commands import TINY, run_module
from support.fault_table import Fault, check
from support.handmade import (
    DATASET,
    KERNEL,
    METADATA,
    NAME,
    SUBMITTED,
    arguments,
    file_root,
    rehearsed,
    rehearsed_package,
    write,
)
from support.kaggle_sessions import KaggleSessions
from support.local_kaggle import SECRET, LocalKaggle, environment, local_kaggle

FORM = b"image,labels\na.jpg,healthy\nb.jpg,healthy\n"
BASIC = base64.b64encode(f"tester:{SECRET}".encode()).decode()
LOGIN = "a-login-that-lasts-some-hours"
NO_VARIABLES = {"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}
BY_FILE = "submit ++competition.submit.by=file"
GPU_SPENT = "Your weekly GPU quota of 30 hours is used up"


@dataclass(frozen=True)
class AtKaggle(Fault):
    """A fault at Kaggle, or on the way to it.

    Args:
        server: changes the local server.
        variables: of the environment.
        after: checks more; called with the folder and the server.
    """

    start: str = "rehearsed"
    server: Callable[[LocalKaggle], object] = lambda kaggle: None
    variables: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[Path, LocalKaggle], object] = lambda folder, kaggle: None


def refuses(method: str, kind: Any, times: int = 99, after: bool = False, **headers: str) -> Callable[..., object]:
    return lambda kaggle: kaggle.fail(method, kind, after, times, **headers)


def sets(**knobs: Any) -> Callable[[LocalKaggle], None]:
    return lambda kaggle: [setattr(kaggle, name, value) for name, value in knobs.items()] and None


def both(*changes: Callable[[Any], object]) -> Callable[[Any], None]:
    return lambda changed: [change(changed) for change in changes] and None


def then(method: str, change: Callable[[LocalKaggle], object]) -> Callable[[LocalKaggle], None]:
    """Return what changes the server after it has answered this request for the first time."""

    def prepare(kaggle: LocalKaggle) -> None:
        def first(asked: dict) -> Any:
            delattr(kaggle, method)
            answer = getattr(kaggle, method)(asked)
            change(kaggle)
            return answer

        setattr(kaggle, method, first)

    return prepare


def holds(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Return what writes a file of the home folder's .kaggle."""

    def write_it(folder: Path) -> None:
        (folder / ".kaggle").mkdir(exist_ok=True)
        (folder / ".kaggle" / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write_it


def has(path: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_text(content)


def login(token: str, until: str) -> Callable[[Path], object]:
    held = {"refresh_token": SECRET + "-2", "access_token": token, "access_token_expiration": until}
    return holds("credentials.json", json.dumps(held | {"username": "tester", "scopes": []}))


def owned_by(owner: str, kernel: bool = True, dataset: bool = True) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        metadata = dict(METADATA)
        if kernel:
            metadata["id"] = KERNEL.replace("tester", owner)
        if dataset:
            about = folder / "kernels/dataset/dataset-metadata.json"
            about.write_text(about.read_text().replace("tester", owner))
            metadata["dataset_sources"] = [DATASET.replace("tester", owner)]
        write(folder / "kernels/submission/kernel-metadata.json", metadata)
        rehearsed(folder)

    return change


def pinned(folder: Path) -> None:
    write(folder / "kernels/submission/kernel-metadata.json", METADATA | {"docker_image": f"{IMAGE}34"})
    rehearsed(folder)


def with_cover(folder: Path) -> None:
    (folder / "kernels/dataset/dataset-cover-image.png").write_bytes(b"cover")
    rehearsed(folder)


def called_na(folder: Path) -> None:
    has(f"data/raw/{NAME}/sample_submission.csv", "image,labels\nNA,healthy\nnull,healthy\n")(folder)


def by_another(folder: Path) -> None:
    from plant_pathology.core.hashes import content_hash
    from plant_pathology.kernel.package import folder_hashes

    steps = {content_hash(folder_hashes(folder / "kernels")): {"account": "someone", "kernel": 7}}
    write(folder / "reports/submit.json", steps)


def nothing_sent(folder: Path, kaggle: LocalKaggle) -> None:
    assert kaggle.blobs == {} and kaggle.kernels == {} and kaggle.submissions == []


def sent_once(folder: Path, kaggle: LocalKaggle) -> None:
    assert len(kaggle.submissions) == 1 and {len(runs) for runs in kaggle.kernels.values()} <= {1}
    assert {len(versions) for versions in kaggle.datasets.values()} <= {1}


def sent_after_another(folder: Path, kaggle: LocalKaggle) -> None:
    assert len(kaggle.submissions) == 2 and len(kaggle.kernels[KERNEL]) == 1


def not_submitted(folder: Path, kaggle: LocalKaggle) -> None:
    assert kaggle.submissions == []


def nothing_pushed(folder: Path, kaggle: LocalKaggle) -> None:
    assert kaggle.kernels == {} and kaggle.submissions == []


def ends_after_two(folder: Path, kaggle: LocalKaggle) -> None:
    """Start again twice: the files are uploaded once more, and no third time."""
    lines = [run_module("submit", *arguments("submit.settle_s=0.1"), cwd=folder).stderr for _ in range(3)]
    assert len(kaggle.datasets[DATASET]) == 2 and "uploaded twice" in lines[-1], lines


def fails_with(error: str, log: str = "") -> Callable[[LocalKaggle], None]:
    return sets(run=lambda run, hidden: ({}, log, error))


PAST, FUTURE = "2026-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"
SECRETS = "A secret is never printed, in no spelling, from no source"
UNREADABLE = "Credentials that cannot be read, told apart from refused ones"
SETTLES = "Kaggle does not show at once what was made"
SPELLING = "Kaggle spells a source in another way"
MACHINE = "Kaggle gives the kernel another machine or image"
SAVE = "SaveKernel"
IMAGE = "gcr.io/kaggle-images/python@sha256:"


def ok(kind: str, done: str, **more: Any) -> AtKaggle:
    """Return a fault that changes nothing: one submission is scored."""
    return AtKaggle(kind, done, more.pop("command", "submit"), "public 0.5", code=0, **{"after": sent_once, **more})


def refusal(done: str, method: str, kind: Any, line: str, **more: Any) -> AtKaggle:
    """Return a refusal of Kaggle that comes with a remedy."""
    server = both(more.pop("server", sets()), refuses(method, kind))
    return AtKaggle("A refusal comes with its remedy", done, more.pop("command", "submit"), line, server=server, **more)


FAULTS = [
    ok(SECRETS, "a line end behind KAGGLE_API_TOKEN", variables={**NO_VARIABLES, "KAGGLE_API_TOKEN": f"{SECRET}\n"}),
    ok(SECRETS, "quotes and a line end around KAGGLE_KEY", variables={"KAGGLE_KEY": f'"{SECRET}"\r\n'}),
    ok(
        SECRETS,
        "KAGGLE_API_TOKEN names a file with Windows' line ends",
        make=has("token", f"{SECRET}\r\n"),
        variables={**NO_VARIABLES, "KAGGLE_API_TOKEN": "token"},
    ),
    AtKaggle(
        SECRETS,
        "a token with a line end inside",
        "submit",
        "error: KAGGLE_API_TOKEN cannot be read",
        variables={**NO_VARIABLES, "KAGGLE_API_TOKEN": f"{SECRET}\n{SECRET}"},
    ),
    *(
        AtKaggle(
            SECRETS, f"Kaggle's refusal repeats {what}", "submit", "***", server=refuses(SAVE, (400, f"no: {text}"))
        )
        for what, text in (("the Authorization header", f"Basic {BASIC}"), ("the key in an address", f"?k={SECRET}"))
    ),
    AtKaggle(
        SECRETS,
        "Kaggle's reason for a failed score has the key",
        "submit",
        "score       bad ***: public -",
        server=then(
            "CreateCodeSubmission",
            lambda kaggle: kaggle.submissions[-1].update(status="ERROR", errorDescription=f"bad {SECRET}"),
        ),
    ),
    AtKaggle(SECRETS, "the kernel's log has the key", "submit", "key=***", server=fails_with("E", f"key={SECRET}")),
    AtKaggle(
        SECRETS,
        "a proxy with user and password that is not there",
        "submit submit.retries=0",
        "cannot be reached",
        variables={"http_proxy": f"http://tester:{SECRET}@127.0.0.1:9"},
    ),
    AtKaggle(
        SECRETS,
        "the client's own output on a download has the token's header",
        "download",
        "***",
        make=lambda folder: shutil.rmtree(folder / "data"),
        server=refuses("DownloadDataFiles", (403, f"denied to Basic {BASIC}")),
    ),
    # Unreadable, refused, run out
    *(
        ok(UNREADABLE, f"{what} in .kaggle/{name}", make=holds(name, content), variables=NO_VARIABLES)
        for what, name, content in (
            (
                "a byte-order mark",
                "kaggle.json",
                b"\xef\xbb\xbf" + json.dumps({"username": "tester", "key": SECRET}).encode(),
            ),
            ("UTF-16, as PowerShell writes it,", "access_token", f"{SECRET}\r\n".encode("utf-16")),
            ("blanks around the key", "kaggle.json", json.dumps({"username": " tester", "key": f"{SECRET}\n"})),
        )
    ),
    *(
        AtKaggle(UNREADABLE, f"{what}", "submit", line, make=make, variables=NO_VARIABLES, after=nothing_sent)
        for what, line, make in (
            ("no credentials", "error: no Kaggle credentials", has("x", "")),
            ("an empty access_token", "~/.kaggle/access_token is empty: copy it", holds("access_token", "")),
            (
                "kaggle.json cut off",
                "~/.kaggle/kaggle.json cannot be read (no JSON, line 1)",
                holds("kaggle.json", '{"us'),
            ),
            ("kaggle.json with a list", "cannot be read (no JSON object)", holds("kaggle.json", "[1]")),
            ("kaggle.json without the key", "kaggle.json has no key", holds("kaggle.json", '{"username": "tester"}')),
            (
                "access_token is no text",
                "cannot be read (it is no text in UTF-8)",
                holds("access_token", b"\xff\x00\x81"),
            ),
            ("access_token is kaggle.json's content", "holds JSON, not a token", holds("access_token", '{"key": "x"}')),
            (
                "access_token is a folder",
                "cannot be read (Is a directory)",
                lambda folder: (folder / ".kaggle/access_token").mkdir(parents=True),
            ),
            (
                "credentials.json without a login",
                "has no refresh_token: run `kaggle auth login`",
                holds("credentials.json", "{}"),
            ),
        )
    ),
    AtKaggle(
        UNREADABLE,
        "KAGGLE_API_TOKEN names a file that is not there",
        "submit",
        "error: KAGGLE_API_TOKEN names a file that does not exist",
        variables={**NO_VARIABLES, "KAGGLE_API_TOKEN": "/nowhere/token"},
    ),
    AtKaggle(
        UNREADABLE,
        "a wrong key",
        "submit",
        "(401: Unauthenticated): it refuses the token in KAGGLE_KEY",
        variables={"KAGGLE_KEY": "wrong-key"},
    ),
    AtKaggle(
        UNREADABLE,
        "a wrong token, and a good kaggle.json that the client would go on with",
        "submit",
        "it refuses the token in KAGGLE_API_TOKEN: create a new one",
        make=holds("kaggle.json", json.dumps({"username": "tester", "key": SECRET})),
        variables={**NO_VARIABLES, "KAGGLE_API_TOKEN": "wrong-token"},
    ),
    ok(
        UNREADABLE,
        "a login that has run out",
        make=login("old-token", PAST),
        variables=NO_VARIABLES,
        server=sets(renew=LOGIN),
    ),
    AtKaggle(
        UNREADABLE,
        "a login that Kaggle does not renew",
        "submit",
        "the login in ~/.kaggle/credentials.json has expired, and is not renewed: run `kaggle auth login` again",
        make=login("old-token", PAST),
        variables=NO_VARIABLES,
        kept=[".kaggle/credentials.json"],
    ),
    *(
        ok(
            UNREADABLE,
            f"a login that runs out during the run, before {method}",
            make=login("first-token", FUTURE),
            variables=NO_VARIABLES,
            server=both(sets(tokens={"first-token"}, renew=LOGIN), then(before, sets(tokens=set()))),
        )
        for before, method in (("CreateDataset", "SaveKernel"), ("SaveKernel", "CreateCodeSubmission"))
    ),
    *(
        AtKaggle(
            UNREADABLE,
            done,
            "download",
            line,
            make=both(lambda folder: shutil.rmtree(folder / "data"), make),
            variables=NO_VARIABLES,
        )
        for done, line, make in (
            ("kaggle.json cut off, at a download", "kaggle.json cannot be read (no JSON", holds("kaggle.json", "{")),
            ("an empty token file, at a download", "access_token is empty", holds("access_token", "\r\n")),
        )
    ),
    # Settling
    *(
        ok(SETTLES, f"three times {code} for the new dataset, kernel and output", server=sets(unseen=3, absent=code))
        for code in (403, 404)
    ),
    *(
        ok(
            SETTLES,
            f"twice {code} for {what}",
            server=both(sets(form=FORM), then(before, refuses(method, code, times=2))),
        )
        for before, method, code, what in (
            ("GetDatasetStatus", "ListDatasetFiles", 404, "the files of the new dataset"),
            ("CreateCodeSubmission", "ListSubmissions", 403, "the list of submissions"),
            ("ListKernelSessionOutput", "GET", 404, "the kernel's output"),
            ("SaveKernel", "GetKernelSessionStatus", 404, "the state of the new kernel"),
            ("ListKernelSessionOutput", "CreateCodeSubmission", 404, "the kernel that has run, when it is submitted"),
        )
    ),
    AtKaggle(
        SETTLES,
        "403 for the new dataset, for ever",
        "submit submit.settle_s=0.2",
        "does not show what was sent, even 0.2 s later",
        server=sets(unseen=10**6),
    ),
    AtKaggle(
        SETTLES,
        "404 for the new kernel, for ever",
        "submit submit.settle_s=0.2",
        "does not show what was sent, even 0.2 s later",
        server=then(SAVE, refuses("GetKernel", 404)),
    ),
    # Spellings
    *(
        ok(SPELLING, f"`{spelled}`", server=sets(spelled=spelled))
        for spelled in (
            "datasets/{source}",
            "{source}/3",
            "{source}/",
            "https://www.kaggle.com/datasets/{source}?select=a.csv",
            "/c/{source}",
        )
    ),
    ok(
        SPELLING,
        "capitals, and a version",
        server=sets(spelled=lambda source: f"Datasets/{source.title()}/versions/12"),
    ),
    AtKaggle(
        SPELLING,
        "another dataset's name",
        "submit",
        f"without the dataset {DATASET}",
        server=sets(spelled="{source}-2"),
    ),
    # The machine and the image
    *(
        AtKaggle(MACHINE, done, "submit", line, make=pinned, server=sets(assigned=assigned), after=not_submitted)
        for done, line, assigned in (
            ("a smaller one", "machine_shape=NvidiaL4, not NvidiaTeslaT4", {"machineShape": "NvidiaL4"}),
            (
                "another version of the image",
                f"docker_image={IMAGE}12, not {IMAGE}34",
                {"dockerImage": f"{IMAGE}12"},
            ),
        )
    ),
    *(
        ok(MACHINE, done, make=pinned, server=sets(assigned=assigned))
        for done, assigned in (
            ("what was asked for, in other capitals", {"machineShape": "NVIDIATESLAT4"}),
            ("neither told, by an older server", {"machineShape": None, "dockerImage": None}),
            ("a tag in the place of the image's digest", {"dockerImage": "gcr.io/kaggle-images/python:v160"}),
        )
    ),
    # Logs
    *(
        AtKaggle(
            "A kernel that failed, whose log is refused",
            done,
            "submit submit.retries=0",
            f"failed on Kaggle (error: Exited with 1): see its log on https://www.kaggle.com/code/{KERNEL}",
            server=server,
        )
        for done, server in (
            ("403 for the log", both(sets(no_logs=True), fails_with("Exited with 1", "log"))),
            ("500 for the log", both(refuses("ListKernelSessionOutput", 500), fails_with("Exited with 1", "log"))),
            ("an empty log", fails_with("Exited with 1")),
        )
    ),
    # Who am I
    *(
        AtKaggle(
            "Who am I, before anything is sent",
            done,
            "submit",
            "but the token is of the account tester: set package.owner=tester",
            make=owned_by(*owner),
            after=nothing_sent,
        )
        for done, owner in (
            ("package.owner of another account", ("other",)),
            ("only the kernel's", ("other", True, False)),
        )
    ),
    # Listing
    AtKaggle(
        "Lists that do not end, and files that are not in them",
        "Kaggle does not list model.safetensors",
        "submit submit.settle_s=0.1",
        "lacks model.safetensors: start again",
        server=sets(hidden_files={"model.safetensors"}),
        after=ends_after_two,
    ),
    ok(
        "Lists that do not end, and files that are not in them",
        "dataset-cover-image.png in the dataset's folder, which Kaggle never lists",
        make=with_cover,
    ),
    AtKaggle(
        "Lists that do not end, and files that are not in them",
        "the page after page 2 of the files is page 2",
        "submit",
        "its list does not end",
        server=refuses("ListDatasetFiles", {"datasetFiles": [], "nextPageToken": "2"}),
    ),
    # Old servers, new states
    ok(
        "A server that is older or newer than the client",
        "404 for GetSubmissionLimits",
        server=sets(without={"GetSubmissionLimits"}),
    ),
    AtKaggle(
        "A server that is older or newer than the client",
        "an answer about the kernel that is empty",
        "submit",
        "error: Kaggle's answer to look up the kernel tester/leaf-submission has no metadata",
        server=refuses("GetKernel", {}),
    ),
    AtKaggle(
        "A server that is older or newer than the client",
        "404 for GetSubmissionLimits, and none left",
        "submit",
        "no submissions left today",
        server=both(
            sets(without={"GetSubmissionLimits"}, daily_limit=1),
            lambda kaggle: kaggle.submissions.append(
                {"ref": 1, "date": datetime.now(UTC).isoformat(), "description": "other", "status": "PENDING"}
            ),
        ),
    ),
    ok(
        "A server that is older or newer than the client",
        "404 for the quota",
        server=sets(without={"GetAcceleratorQuotaStatistics"}),
    ),
    *(
        ok(
            "A server that is older or newer than the client",
            f"a state of the {what} that the client does not know",
            server=then(made, refuses(method, {"status": "THAWING"}, times=2)),
        )
        for what, made, method in (
            ("dataset", "CreateDataset", "GetDatasetStatus"),
            ("kernel", SAVE, "GetKernelSessionStatus"),
        )
    ),
    ok(
        "A server that is older or newer than the client",
        "a state of a submission that the client does not know",
        server=lambda kaggle: kaggle.submissions.append({"ref": 1, "description": "other", "status": "QUARANTINED"}),
        after=sent_after_another,
    ),
    AtKaggle(
        "A server that is older or newer than the client",
        "an unknown state of our submission, for ever",
        "submit submit.score_timeout_s=0.1",
        "score: still thawing after",
        server=then("CreateCodeSubmission", lambda kaggle: kaggle.submissions[-1].update(status="THAWING")),
        after=sent_once,
    ),
    AtKaggle(
        "A server that is older or newer than the client",
        "an unknown state, for ever",
        "submit submit.kernel_timeout_s=0.1",
        "kernel: still thawing after",
        server=refuses("GetKernelSessionStatus", {"status": "THAWING"}),
    ),
    # Refusals
    refusal(
        "two kernels run already",
        SAVE,
        {"error": "Maximum batch GPU session count of 2 reached."},
        "stop one of your notebooks that run on Kaggle",
    ),
    refusal(
        "the GPU hours are spent, says the push",
        SAVE,
        {"error": GPU_SPENT},
        "(29.9 of 30.0 GPU hours used, renewed 2026-12-05 00:00 UTC)",
        server=sets(gpu_hours=(29.9, 30)),
    ),
    AtKaggle(
        "A refusal comes with its remedy",
        "the GPU hours are spent, says the quota",
        "submit",
        "no GPU hours are left (30.0 of 30.0 GPU hours used",
        server=sets(gpu_hours=(30, 30)),
        after=nothing_pushed,
    ),
    refusal(
        "the phone is not verified",
        SAVE,
        (403, "Phone verification is required"),
        "verify your phone number on https://www.kaggle.com/settings",
    ),
    refusal(
        "the rules are not accepted",
        "CreateCodeSubmission",
        (403, "You must accept this competition's rules"),
        f"accept the competition's rules on https://www.kaggle.com/competitions/{NAME}/rules",
    ),
    refusal("451", "GetCompetition", 451, f"accept the rules on https://www.kaggle.com/competitions/{NAME}/rules"),
    refusal(
        "not joined",
        "GetCompetition",
        {"ref": NAME},
        f"join the competition first: https://www.kaggle.com/competitions/{NAME}/rules",
    ),
    refusal(
        "the competition takes no submissions",
        "GetCompetition",
        {"ref": NAME, "submissionsDisabled": True},
        "no longer takes submissions",
    ),
    refusal(
        "the deadline has passed",
        "CreateCodeSubmission",
        (400, "The competition deadline has passed"),
        "choose another competition",
    ),
    refusal(
        "the daily limit, told at the submission",
        "CreateCodeSubmission",
        (400, "You have reached your daily submission limit"),
        "after midnight UTC",
    ),
    refusal("a merger of teams", "CreateCodeSubmission", (400, "Your team is being merged"), "wait until the merger"),
    refusal(
        "a file for a competition of notebooks, told at the submission",
        "CreateSubmission",
        (400, "This is a notebook-only competition"),
        "set submit.by to kernel",
        command=BY_FILE,
        make=file_root,
    ),
    AtKaggle(
        "A refusal comes with its remedy",
        "a file for a competition of notebooks",
        BY_FILE,
        "takes notebooks only: set submit.by to kernel",
        make=file_root,
        server=sets(kernels_only=True),
        after=nothing_sent,
    ),
    refusal("404 for the competition", "GetCompetition", 404, "check the names: competition"),
    refusal(
        "an error with status 200",
        "GetCompetition",
        {"code": 403, "message": "refused with status 200"},
        "(403: refused with status 200): join",
    ),
    AtKaggle(
        "A refusal comes with its remedy",
        "a proxy that asks for a password",
        "submit",
        "(407): the proxy asks for a password: set https_proxy",
        server=sets(proxy_refuses=True),
    ),
    AtKaggle(
        "A refusal comes with its remedy",
        "the same, on the way to Kaggle itself",
        "submit submit.retries=0",
        "(407): the proxy asks for a password",
        server=sets(proxy_refuses=True),
        variables={"KAGGLE_API_ENVIRONMENT": "PROD"},
    ),
    *(
        ok(
            "A refusal comes with its remedy",
            f"429 with Retry-After: {what}",
            server=refuses("GetCompetition", 429, times=1, Retry_After=value),
        )
        for what, value in (("a date", format_datetime(datetime.now(UTC), usegmt=True)), ("no number", "soon"))
    ),
    AtKaggle(
        "A refusal comes with its remedy",
        "429, for ever",
        "submit submit.retries=1",
        "too many requests: wait some minutes",
        server=refuses("GetCompetition", 429),
    ),
    # Form
    ok("The form and the journal", "the form on Kaggle is ours", server=sets(form=FORM)),
    ok("The form and the journal", "Kaggle does not give the form alone", server=sets(form=None)),
    *(
        AtKaggle(
            "The form and the journal",
            f"the form on Kaggle has {what}",
            command,
            line,
            make=file_root,
            server=sets(form=form),
            after=nothing_sent,
        )
        for what, command, line, form in (
            ("another column", "submit", "it has the columns ['image', 'label']", FORM.replace(b"labels", b"label")),
            ("a row more", "submit", "it has 3 rows, not 2, c.jpg among the new", FORM + b"c.jpg,healthy\n"),
            (
                "another order",
                BY_FILE,
                "its rows are in another order",
                b"image,labels\nb.jpg,healthy\na.jpg,healthy\n",
            ),
        )
    ),
    ok(
        "The form and the journal",
        "images called NA and null",
        make=called_na,
        server=sets(
            form=b"image,labels\nNA,healthy\nnull,healthy\n",
            run=lambda run, hidden: ({"submission.csv": b"image,labels\nNA,scab\nnull,rust\n"}, "", None),
        ),
    ),
    *(
        AtKaggle(
            "The form and the journal",
            f"the journal {what}",
            "submit",
            line,
            make=make,
            kept=["reports/submit.json"],
            after=nothing_sent,
        )
        for what, line, make in (
            ("is empty", "submit.json is not JSON", has("reports/submit.json", "")),
            ("is cut off", "submit.json is not JSON", has("reports/submit.json", '{"a": {')),
            ("is a list", "is no journal of submissions: move it away", has("reports/submit.json", "[]")),
            ("has other values", "is no journal of submissions: move it away", has("reports/submit.json", '{"a": 1}')),
            ("is of another account", "by the account someone, and the token is tester's", by_another),
        )
    ),
]


A_SWEEP = "A sweep in sessions of Kaggle, which have all failed"
TRAIN = "train -m hydra/launcher=kaggle submit.settle_s=0.1"


def on_kaggle(done: str, line: str, overrides: str = "", **more: Any) -> AtKaggle:
    """Return a fault of a sweep of one run, of which no session brings it further."""
    return AtKaggle(A_SWEEP, done, f"{TRAIN} {overrides}".strip(), line, **{"start": "pushed", **more})


def nothing_trained(folder: Path, kaggle: LocalKaggle) -> None:
    assert kaggle.kernels == {} and kaggle.submissions == []


def a_session_cut_off(folder: Path) -> None:
    (folder / "runs/.kaggle/x").mkdir(parents=True)
    (folder / "runs/.kaggle/x/session.json").write_text('{"kernel": "tes')


FAULTS += [
    on_kaggle(
        "a dataset that Kaggle is still processing",
        "dataset: still blobs_received after",
        "submit.dataset_timeout_s=0.1",
        server=sets(dataset_polls=10**6),
        after=nothing_trained,
    ),
    on_kaggle(
        "the GPU hours are spent",
        "and 0.0 are left (30.0 of 30.0 GPU hours used, renewed 2026-12-05 00:00 UTC): wait until it is renewed",
        server=sets(gpu_hours=(30, 30)),
        after=nothing_trained,
    ),
    on_kaggle(
        "the phone is not verified",
        "verify your phone number on https://www.kaggle.com/settings",
        server=refuses(SAVE, (403, "Phone verification is required")),
        after=nothing_trained,
    ),
    on_kaggle("a session that fails without output", "brought no run further (error): it was ended"),
    on_kaggle(
        "a session that fails, whose log is refused",
        "brought no run further (error): it was ended",
        server=sets(no_logs=True),
    ),
    on_kaggle(
        "session.json of an earlier start is cut off",
        "session.json is not JSON",
        make=a_session_cut_off,
        after=nothing_trained,
    ),
]


@pytest.fixture
def sessions() -> Iterator[KaggleSessions]:
    with closing(KaggleSessions(dataset_polls=0, kernel_polls=0, replay=[lambda names: ("ERROR", {})])) as local:
        yield local


@pytest.fixture
def kaggle() -> Iterator[LocalKaggle]:
    with local_kaggle(
        competition=NAME, run=lambda run, hidden: ({"submission.csv": SUBMITTED}, "ran\n", None)
    ) as local:
        yield local


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, request, tmp_path, monkeypatch):
    kaggle = request.getfixturevalue("sessions" if fault.kind == A_SWEEP else "kaggle")
    fault.server(kaggle)
    for name, value in environment(tmp_path, kaggle, **fault.variables).items():
        monkeypatch.setenv(name, value)
    if fault.kind == A_SWEEP:
        shutil.copytree(request.getfixturevalue("pushed"), tmp_path, dirs_exist_ok=True)
        overrides = [*TINY, *arguments()[1:]]
    else:
        rehearsed_package(tmp_path)
        overrides = arguments() if fault.command.startswith("submit") else arguments()[:1]
    printed = check(fault, tmp_path, overrides)
    fault.after(tmp_path, kaggle)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and not is_given(path, tmp_path)]
    for spelling in (SECRET, BASIC, LOGIN, "first-token"):
        assert spelling not in printed and not any(spelling.encode() in content for content in written)


def is_given(path: Path, folder: Path) -> bool:
    """Whether a file holds a secret because the test put it there."""
    return ".kaggle" in path.parts or path == folder / "token"
