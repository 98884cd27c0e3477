"""Faults that the datastore meets, each with the outcome: servers, addresses, files, disks, two commands at once."""

import errno
import functools
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plant_pathology.core.errors import UserError
from plant_pathology.store import verified
from plant_pathology.store.folder import FolderBackend
from support import trials
from support.commands import TINY, on_a_small_disk, run_module
from support.fault_table import Fault, check
from support.faults import Faults, FaultyProxy, Quirk
from support.prepared import leaves, prepare
from support.refused_calls import needs_refused_calls, refuse
from support.stores import SECRET, BucketPlace, FolderPlace

NO_CHECKS = Quirk(ignores="x-amz-checksum-sha256 x-amz-sdk-checksum-algorithm")
STORE, POINTER = "store/**/*", "datastore.json"


@dataclass(frozen=True)
class ServerFault(Fault):
    """A fault of an S3 server, which the command reaches through a proxy.

    Args:
        quirk: what the server does otherwise than Amazon's.
        full: two versions of the data are in the store already.
    """

    quirk: Quirk = Quirk()
    full: bool = False


def flip(pattern: str):
    """Return a function that flips one bit in the middle of the largest file that matches."""

    def change(folder: Path) -> None:
        path = max(folder.glob(pattern), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(content)

    return change


def write(file: str, content: str):
    def change(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)

    return change


def point_to(**changes):
    """Return a function that changes values of the pointer file."""
    return lambda folder: write(POINTER, json.dumps(json.loads((folder / POINTER).read_text()) | changes))(folder)


def remove(ref: str):
    """Return a function that removes a version and leaves the pointer to it."""

    def change(folder: Path) -> None:
        pointer = (folder / POINTER).read_bytes()
        (folder / POINTER).unlink()
        assert run_module("datastore", "rm", *TINY, f"data.ref={ref}", cwd=folder).returncode == 0
        (folder / POINTER).write_bytes(pointer)

    return change


def begin_run(folder: Path) -> None:
    """Write what a run that trains on the version writes first."""
    write("runs/one/run.json", json.dumps({"data": json.loads((folder / POINTER).read_text())["sha256"]}))(folder)
    (folder / POINTER).unlink()


def same_bytes(folder: Path) -> None:
    assert "all " in run_module("datastore", "verify", *TINY, cwd=folder).stdout


def refusal(command: str, code: str, line: str, status: int = 400, what="", **quirk) -> ServerFault:
    """Return the fault of a server that refuses requests; by default all of them."""
    done = f"the server answers {code or status}" + (f" to {what}" if what else "")
    refuses = (what if what in ("PUT", "HEAD", "DELETE") else "", "")
    asked = Quirk(refuses=refuses, answer=(status, code), **quirk)
    return ServerFault(REFUSALS, done, command, line, quirk=asked, full=command != "datastore push", kept=[POINTER])


PROMISES, REFUSALS, ADDRESS = "Promises of S3 servers", "Servers that refuse a request", "Addresses of stores"
DAMAGED, POINTERS, NAMES = "Damaged files", "Which version, and of what", "Names and kinds of files"
ONCE, VERBS = "Two at once", "Verbs of datastore"
FAULTS = [
    ServerFault(
        *(PROMISES, "the server ignores If-None-Match", "datastore push", "this server ignores If-None-Match"),
        kept=[POINTER, STORE],
        quirk=Quirk(ignores="if-none-match"),
    ),
    ServerFault(
        *(PROMISES, "the server answers 501 to If-None-Match", "datastore push"),
        "S3 answers NotImplemented to PutObject: this server lacks something that the store needs: update it",
        kept=[POINTER],
        quirk=Quirk(refuses="if-none-match", answer=(501, "NotImplemented")),
    ),
    ServerFault(
        *(PROMISES, "the server does not check SHA-256", "datastore push", "plant-pathology:1: "),
        code=0,
        quirk=NO_CHECKS,
    ),
    ServerFault(
        *(PROMISES, "listings do not show what was just written", "datastore push"),
        "this server does not show at once what was written",
        kept=[POINTER],
        quirk=Quirk(blind=True),
    ),
    ServerFault(
        *(PROMISES, "listings end after one key, without a token", "datastore gc", "the listing ends after 1 of more"),
        full=True,
        quirk=Quirk(page=1),
    ),
    ServerFault(
        *(PROMISES, "the server encrypts nothing", "datastore push store.sse=AES256", "did not encrypt with store.sse"),
        kept=[POINTER],
        quirk=Quirk(ignores="x-amz-server-side-encryption"),
    ),
    refusal("datastore ls", "NotImplemented", "to ListObjectsV2: this server lacks", 501),
    refusal("datastore ls", "RequestTimeTooSkewed", "this machine's clock is wrong: set it", 403),
    refusal(
        "datastore ls",
        "AuthorizationHeaderMalformed",
        "set AWS_DEFAULT_REGION=eu-west-3",
        details="<Message>the region 'us-east-1' is wrong; expecting 'eu-west-3'</Message><Region>eu-west-3</Region>",
    ),
    refusal(
        "datastore ls",
        "PermanentRedirect",
        "redirects without an end: the bucket is in another region: set AWS_DEFAULT",
        301,
    ),
    refusal("datastore ls", "<html>", "write the server's own address", 302, location="https://example.org/login"),
    refusal("datastore push", "QuotaExceeded", "the store is full: free space", 403, "PUT"),
    refusal("datastore push", "XMinioStorageFull", "the store is full: free space", 507, "PUT"),
    refusal("datastore push", "EntityTooLarge", "lower prepare.shard_mb", 400, "PUT"),
    refusal("datastore push", "<html>", "lower prepare.shard_mb", 413, "PUT"),
    refusal("datastore push", "MissingContentLength", "a proxy changes the requests", 411, "PUT"),
    refusal(
        "datastore push", "XAmzContentSHA256Mismatch", "a file changed while it was pushed, or on the way", 400, "PUT"
    ),
    refusal("datastore push", "AccessDenied", "need the permission s3:PutObject", 403, "PUT"),
    refusal("datastore push store.sse=aws:kms", "KMS.NotFoundException", "check store.sse", 400, "PUT"),
    refusal("datastore gc", "AccessDenied", "need the permission s3:DeleteObject", 403, "DELETE"),
    refusal("datastore gc", "", "need the permission s3:GetObject, and s3:ListBucket", 403, "HEAD"),
    refusal("datastore ls", "AccessDenied", "need the permission s3:ListBucket", 403),
    refusal("datastore ls", "SignatureDoesNotMatch", "this server does not know the credentials", 403),
    refusal("datastore ls", "ExpiredToken", "renew the credentials"),
    refusal("datastore ls", "<html>", "if it stays, perhaps a proxy or a login page answers", 200),
    refusal("datastore ls", "<html>", "or a proxy refuses", 403),
    refusal("datastore ls", "NeverHeardOf", "bad luck; check store.uri", details="<Message>bad\n luck</Message>"),
    *(
        Fault(
            ADDRESS,
            f"store.uri={uri.replace(SECRET, '…')}",
            f"datastore ls 'store.uri=\"{uri}\"'",
            line,
            kept=[POINTER],
        )
        for uri, line in {
            "file://~nobody-here/x": "there is no such user",
            "file:///C:/data": "as Linux names the folder",
            "file://localhost/data": "write file:///<absolute path>",
            "s3://Team_Data/x": "a bucket's name has a-z, 0-9, '.' and '-' only",
            f"s3://key:{SECRET}@team/x": "store.uri must be file://<folder> or s3://<bucket>/<prefix>",
            "gs://team/x": "store.endpoint_url=https://storage.googleapis.com",
            "https://s3.amazonaws.com/team": "the address of the server is store.endpoint_url",
            "/data/store": "store.uri must be file://<folder>",
        }.items()
    ),
    *(
        Fault(
            ADDRESS,
            f"store.endpoint_url={url.replace(SECRET, '…')}",
            f"datastore ls store.uri=s3://team/x 'store.endpoint_url=\"{url}\"'",
            line,
            kept=[POINTER],
        )
        for url, line in {
            "http://127.0.0.1:9/team": "holds the bucket team, which store.uri names",
            "https://team.example.org": "holds the bucket team, which store.uri names",
            "127.0.0.1:9000": "write http(s)://<host>:<port>",
            "http://host:port": "write http(s)://<host>:<port>",
            f"http://key:{SECRET}@127.0.0.1:9": "holds a password: remove it",
            f"http://127.0.0.1:9/?X-Amz-Signature={SECRET}": "as signed links do",
            "http://127.0.0.1:9": "check store.uri, store.endpoint_url and the network",
        }.items()
    ),
    Fault(
        ADDRESS, "a space after store.uri", "datastore ls 'store.uri=\"file://./store \"'", "plant-pathology", code=0
    ),
    Fault(
        *(DAMAGED, "one bit of a shard in the store", "train", "has other bytes than were pushed: move file://"),
        make=flip("store/objects/*"),
        kept=[POINTER, STORE],
    ),
    Fault(
        *(DAMAGED, "one bit of a version's manifest", "datastore ls", "1.json is damaged"),
        make=flip("store/versions/*/1.json"),
        kept=[POINTER, STORE],
    ),
    Fault(
        *(DAMAGED, "one bit of a version's manifest", "datastore gc", "1.json is damaged"),
        make=flip("store/versions/*/1.json"),
        kept=["store/objects/*"],
    ),
    Fault(
        *(DAMAGED, "an object deleted", "train", "is missing or truncated: push the same folder again"),
        make=lambda folder: [path.unlink() for path in folder.glob("store/objects/*")],
    ),
    Fault(
        *(
            DAMAGED,
            "an object cut",
            "datastore push",
            "there already",
            lambda folder: shorten(folder / "store/objects"),
        ),
        code=0,
        also=same_bytes,
    ),
    Fault(
        *(DAMAGED, "files that macOS leaves in data/prepared", "datastore push", "plant-pathology:1: "),
        make=lambda folder: leave_hidden_files(folder / "data/prepared"),
        code=0,
        kept=[POINTER, STORE],
    ),
    *(
        Fault(
            *(DAMAGED, f"one bit of data/prepared/{file}", "datastore push store.name=again"),
            "has other bytes than were written: run prepare again",
            make=flip(f"data/prepared/{file}"),
            kept=[POINTER, "store/versions/**/*"],
        )
        for file in ("images-*", "index.npy", "index.csv")
    ),
    Fault(
        *(DAMAGED, "data/prepared/SHA256SUMS emptied", "datastore push", "SHA256SUMS is damaged: run prepare again"),
        make=write("data/prepared/SHA256SUMS", ""),
        kept=[POINTER, STORE],
    ),
    Fault(
        *(DAMAGED, "a shard of data/prepared deleted", "datastore push", "lacks images-000000.npy: run prepare again"),
        make=lambda folder: (folder / "data/prepared/images-000000.npy").unlink(),
        kept=[POINTER, STORE],
    ),
    Fault(POINTERS, "pointer emptied", "train", "datastore.json is not JSON", write(POINTER, ""), kept=[STORE]),
    Fault(POINTERS, "pointer is a list", "train", "does not point to a version", write(POINTER, "[1]"), kept=[STORE]),
    Fault(POINTERS, "pointer holds a number", "datastore show", "and not 7: set data.ref", point_to(ref=7)),
    Fault(POINTERS, "pointer to another content", "train", "points to another plant-pathology:1", point_to(sha256="0")),
    Fault(POINTERS, "version removed", "train", "not plant-pathology:1 (it was removed)", remove("plant-pathology:1")),
    Fault(
        *(POINTERS, "prepared for another competition", "datastore push competition=dog-breed-identification"),
        "holds sample, and the config says competition=dog-breed-identification: run prepare first",
        kept=[POINTER, STORE],
    ),
    Fault(
        *(POINTERS, "pushed for another competition", "train competition=dog-breed-identification"),
        "plant-pathology:1 holds sample, and the config says competition=dog-breed-identification",
        kept=[POINTER, STORE],
    ),
    *(
        Fault(NAMES, done, "datastore push", line, make, kept=[POINTER, STORE])
        for done, line, make in [
            ("a name with '?'", "other disks refuse this name", write("data/prepared/what?", "")),
            ("a name with a dot at its end", "other disks refuse this name", write("data/prepared/end.", "")),
            (
                "INDEX.csv beside index.csv",
                "differ in case or Unicode form alone",
                write("data/prepared/INDEX.csv", ""),
            ),
            (
                "é in two Unicode forms",
                "differ in case or Unicode form alone",
                lambda folder: [write(f"data/prepared/{name}", "")(folder) for name in ("\u00e9", "e\u0301")],
            ),
            ("a FIFO", "is neither a file nor a folder", lambda folder: os.mkfifo(folder / "data/prepared/pipe")),
            (
                "a link to nothing",
                "is neither a file nor a folder",
                lambda folder: (folder / "data/prepared/gone").symlink_to("nowhere"),
            ),
        ]
    ),
    Fault(
        *(ONCE, "rm of the version that the pointer names", "datastore rm data.ref=plant-pathology:1"),
        "datastore.json points to plant-pathology:1: push another version first",
        kept=[POINTER, STORE],
    ),
    Fault(
        *(ONCE, "rm of a version that a run trains on", "datastore rm data.ref=plant-pathology:1"),
        "runs/one needs plant-pathology:1 to be trained to its end",
        make=begin_run,
        kept=[STORE],
    ),
    *(
        Fault(VERBS, done, f"datastore {command}", line, make, kept=[POINTER, STORE, "copy/*"])
        for done, command, line, make in [
            ("no folder to copy to", "pull", "store.into is not set", lambda folder: None),
            ("the folder has files", "pull store.into=copy", "copy holds files already", write("copy/mine", "thesis")),
            ("a file in its place", "pull store.into=copy", "copy is no folder", write("copy", "thesis")),
            ("no number", "rm data.ref=plant-pathology", "name the one to remove, such as", lambda folder: None),
            (
                "number 0",
                "show data.ref=plant-pathology:0",
                "is no version: write <name>:<number>",
                lambda folder: None,
            ),
            (
                "a number to come",
                "show data.ref=plant-pathology:9",
                "holds plant-pathology:1, and not",
                lambda folder: None,
            ),
            ("a note of two lines", "push 'store.note=\"a\nb\"'", "store.note must be one line", lambda folder: None),
            ("a name with a slash", "push store.name=../up", "store.name='../up' must be of a-z", lambda folder: None),
        ]
    ),
]


def leave_hidden_files(folder: Path) -> None:
    hidden = folder / ".Trashes"
    hidden.mkdir()
    for path in (folder / ".DS_Store", folder / "._index.csv", hidden / "index.csv"):
        path.touch()


def shorten(folder: Path) -> None:
    path = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    path.chmod(0o644)
    os.truncate(path, 10)


@pytest.fixture(scope="module")
def server(s3):
    """Yield a proxy before the S3 server."""
    proxy = FaultyProxy(s3.url)
    yield proxy
    proxy.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_fault_has_the_outcome_that_the_table_says(fault, fault_folder, raw, s3, server, tmp_path):
    folder, overrides = fault_folder(fault.start), [*TINY, f"paths.raw={raw}"]
    if isinstance(fault, ServerFault):
        place, server.quirk = BucketPlace(tmp_path, s3, url=server.url), Quirk()
        if fault.full:
            place.store().push("plant-pathology", folder / "data" / "prepared")
            place.store().push("plant-pathology", prepare(tmp_path / "more", leaves(0, 10)))
            place.store().backend.replace(f"objects/{'0' * 64}", b"that no version uses")
        overrides, server.quirk = [*overrides, *place.overrides], fault.quirk
        before = place.raw("objects")
    check(fault, folder, overrides)
    if isinstance(fault, ServerFault):
        assert place.raw("objects").items() >= before.items() and (fault.full or fault.code == 0 or not before)


@pytest.fixture
def secure(s3, tmp_path):
    """Yield the address of an HTTPS server whose certificate nobody knows."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    server = HTTPServer(("localhost", 0), BaseHTTPRequestHandler)
    server.handle_error = lambda *arguments: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()


def list_versions(url, cwd):
    done = run_module("datastore", "ls", "store.uri=s3://team/x", f"store.endpoint_url={url}", cwd=cwd)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_tls_errors_name_the_remedy(secure, s3, tmp_path):
    assert "set AWS_CA_BUNDLE to the file" in list_versions(secure, tmp_path)
    assert "write http:// into store.endpoint_url" in list_versions(s3.url.replace("http:", "https:"), tmp_path)


def on_disk_without(call, error, cwd, *arguments):
    command = [sys.executable, "-m", "plant_pathology.datastore", *arguments]
    setup = functools.partial(refuse, call, error)
    return subprocess.run(command, cwd=cwd, preexec_fn=setup, capture_output=True, text=True)


@pytest.mark.slow
@needs_refused_calls
@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_disk_without_hard_links_keeps_all_promises(error, tmp_path):
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data" / "prepared", leaves(0, 10))
    command = [sys.executable, "-m", "plant_pathology.datastore", "push"]
    setup = functools.partial(refuse, "link", error)
    pushers = [
        subprocess.Popen([*command, f"store.note={n}"], cwd=tmp_path, preexec_fn=setup, stdout=subprocess.PIPE)
        for n in range(3)
    ]
    assert [each.communicate()[0].split(b":")[1] for each in pushers] == [b"1"] * 3
    store = FolderPlace(tmp_path).store()
    assert store.refs() == [("plant-pathology", 1)] and store.resolve("plant-pathology").find_damage() == []
    assert store.backend.keys("claims") == store.backend.keys("taken/claims") == []


def test_a_number_taken_by_a_push_that_died_before_its_manifest_is_passed_over(tmp_path, monkeypatch):
    """On a disk without hard links."""

    def no_links(*paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr("plant_pathology.store.folder.TAKER_S", 0.2)
    store = FolderPlace(tmp_path).store()
    (store.backend.root / "taken/versions/leaves").mkdir(parents=True)
    (store.backend.root / "taken/versions/leaves/1.json").touch()
    version, new = store.push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    assert new and version.ref == "leaves:2" and store.push("leaves", tmp_path / "data") == (version, False)
    assert not store.backend.create("versions/leaves/1.json", b"") and not store.backend.create(
        "versions/leaves/2.json", b""
    )


def test_who_finds_a_key_taken_on_a_disk_without_hard_links_waits_until_it_is_there(tmp_path, monkeypatch):
    """Else a push that is refused a number cannot see that its own content was just stored under it."""

    def no_links(*paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    backend, renaming = FolderPlace(tmp_path).store().backend, threading.Event()

    def slow_rename(source, target, rename=Path.rename):
        renaming.set()
        time.sleep(0.5)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", slow_rename)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(backend.create, "versions/leaves/1.json", b"first")
        renaming.wait()
        assert backend.create("versions/leaves/1.json", b"second") is False
        assert backend.local_path("versions/leaves/1.json").read_bytes() == b"first"
        assert first.result() is True


@needs_refused_calls
def test_a_cache_on_a_disk_without_locks_is_one_line(place_s3, tmp_path):
    place_s3.store().push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    shutil.rmtree(place_s3.cache, ignore_errors=True)
    done = on_disk_without("flock", errno.ENOLCK, tmp_path, "show", "data.ref=leaves:1", *place_s3.overrides)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "set store.cache to" in done.stderr, done.stderr


@pytest.fixture
def place_s3(s3, tmp_path):
    return BucketPlace(tmp_path, s3)


@pytest.mark.parametrize(
    "command, key", [("push store.uri=file://small/store", "store.uri"), ("pull store.into=small/copy", "store.into")]
)
def test_a_disk_that_is_too_small_is_found_before_anything_is_copied(command, key, fault_folder):
    folder = fault_folder("pushed")
    done = on_a_small_disk("datastore", *command.split(), cwd=folder, kilobytes=100, afterwards="find small -type f")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "kB are free on that disk: make room there" in done.stderr and f"set {key} to" in done.stderr
    assert not [line for line in done.stdout.splitlines() if "claims" not in line], done.stdout


@dataclass
class Changing:
    """Wrap a backend so that the pushed folder changes at the first upload or question."""

    backend: FolderBackend
    method: str
    change: Callable[[], object]

    def __getattr__(self, name):
        if name == self.method and self.change:
            change, self.change = self.change, None
            change()
        return getattr(self.backend, name)


@pytest.mark.parametrize("method", ["sizes", "put", "require_space"])
@pytest.mark.parametrize("how", ["replaced", "written to", "gone"])
def test_a_folder_that_changes_during_a_push_gives_one_line_and_no_version(how, method, tmp_path):
    """As when prepare runs at the same time."""
    folder = prepare(tmp_path / "data", leaves(0, 40))

    def change():
        if how != "written to":
            folder.rename(tmp_path / "old")
        if how == "replaced":
            prepare(folder, leaves(10, 60))
        elif how == "written to":
            (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + "\n")

    store = FolderPlace(tmp_path).store()
    with pytest.raises(UserError, match="data changed while it was pushed: push again"):
        replace(store, backend=Changing(store.backend, method, change)).push("leaves", folder)
    assert store.refs() == []


def test_a_damaged_file_in_the_cache_is_fetched_again(place_s3, tmp_path):
    version, _ = place_s3.store().push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    path = version.open("index.csv")
    content = path.read_bytes()
    flip("cache/objects/" + path.name)(tmp_path)
    assert path.read_bytes() != content
    verified._verified.clear()  # as in another process
    assert version.open("index.csv").read_bytes() == content


def read_all(version, parents_client=None):
    with version.store.backend._s3() as client:
        assert client is not parents_client
    assert version.find_damage() == []


def test_a_forked_process_does_not_use_the_connections_of_its_parent(place_s3, tmp_path):
    version, _ = place_s3.store().push("leaves", prepare(tmp_path / "data", leaves(0, 80), shard_rows=4))
    read_all(version)
    with version.store.backend._s3() as client:
        processes = [get_context("fork").Process(target=read_all, args=(version, client)) for _ in range(4)]
    for process in processes:
        process.start()
    read_all(version)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4


def test_uploads_that_a_server_does_not_check_are_read_back_and_repeated(s3, server, tmp_path):
    place, server.quirk = BucketPlace(tmp_path, s3, url=server.url, timeout_s=5), NO_CHECKS
    server.faults = Faults("corrupted upload", rate=0.3, seed=3)
    try:
        version, _ = place.store().push("leaves", prepare(tmp_path / "data", leaves(0, 60), shard_rows=4))
    finally:
        met, server.faults, server.quirk = server.faults.met, None, Quirk()
    assert sum(met.values()) > 3 and version.find_damage() == []


def test_two_pulls_into_one_folder_leave_one_whole_copy(tmp_path):
    store = FolderPlace(tmp_path).store()
    version, _ = store.push("leaves", prepare(tmp_path / "data", leaves(0, 40)))
    late = replace(
        version, store=replace(store, backend=Changing(store.backend, "fetch", lambda: version.pull(tmp_path / "copy")))
    )
    with pytest.raises(UserError, match="copy holds files already"):
        late.pull(tmp_path / "copy")
    assert trials.contents(tmp_path / "copy") == trials.contents(tmp_path / "data")
    assert not list(tmp_path.glob(".copy*"))
