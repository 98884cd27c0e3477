"""Inject network faults: a real HTTP proxy between a real client and a real S3 server, which follows a plan."""

import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

STALL_S = 1.5  # longer than the timeout of the clients under test
ANSWERS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
}
FAULTS = [
    "500",
    "503",
    "expired",
    "reset",  # of the connection, before the server receives the request
    "lost answer",  # reset after the server has done what was asked
    "stall",  # the same, but the client waits first
    "truncated",  # half of the body, then the end
    "stalled body",  # half of the body, then nothing
    "corrupted download",  # one bit of an object is flipped
    "corrupted upload",
]


@dataclass(frozen=True)
class Quirk:
    """How a server differs from Amazon's, at every request; None and "" for what it does as Amazon does.

    Args:
        ignores: headers of requests that it does not know, in lower case, separated by spaces.
        refuses: a header of requests; or a method, "" for any, and part of the path of requests that it refuses.
        answer: (status, code) of that refusal; with a code "<html>", the body is a web page.
        details: XML elements of the refusal beside the code.
        page: after how many keys its listings end, without a token for the rest; 0 for never.
        blind: its listings do not show anything.
        location: where it redirects to.
    """

    ignores: str = ""
    refuses: str | tuple[str, str] | None = None
    answer: tuple[int, str] = (0, "")
    details: str = ""
    page: int = 0
    blind: bool = False
    location: str = ""

    def refused(self, method: str, path: str, headers) -> bool:
        if isinstance(self.refuses, str):
            return self.refuses in {name.lower() for name in headers}
        return self.refuses is not None and method in (self.refuses[0] or method) and self.refuses[1] in path

    def listing(self, content: bytes) -> bytes:
        """Return a listing as this server answers it."""
        keys = re.findall(rb"<Contents>.*?</Contents>", content, re.DOTALL)
        if self.blind:
            keys, rest = [], keys
        elif self.page and len(keys) > self.page:
            rest = keys[self.page :]
            content = content.replace(b"<IsTruncated>false<", b"<IsTruncated>true<")
        else:
            return content
        for key in rest:
            content = content.replace(key, b"")
        return content


class Faults:
    """Plan faults of one kind for a share of all requests; the seed alone decides for which ones.

    Expired credentials stay expired: after its first fault, the kind "expired" applies to every request.

    Attributes:
        met: number of requests that met a fault, by kind.
    """

    def __init__(self, kind: str, rate: float, seed: int):
        self.kind, self.rate, self.seed = kind, rate, seed
        self.met = Counter()
        self._seen, self._lock, self._expired = Counter(), threading.Lock(), False

    def meets(self, method: str, path: str) -> str | None:
        """Return the fault that the next request of this kind meets; None for none."""
        # Without the store's prefix and the random names of claims, so that the plan is the same in every store.
        request = (
            method,
            re.sub(r"^/[^/]+/[^/?]+|prefix=[^&]+|(?<=claims/push-)\w+|(?<=incoming/probe-)\w+", "", path),
        )
        with self._lock:
            self._seen[request] += 1
            chance = random.Random(f"{self.seed} {request} {self._seen[request]}").random()
            fault = self.kind if chance < self.rate or self._expired else None
            self._expired = fault == "expired"
            if not self._concerns(fault, method, path):
                return None
            self.met[fault] += 1
            return fault

    @staticmethod
    def _concerns(fault: str | None, method: str, path: str) -> bool:
        if fault == "corrupted upload":
            return method == "PUT"
        # A listing has no checksum: there, TLS would detect a changed byte.
        if fault == "corrupted download":
            return method == "GET" and ("/objects/" in path or "/versions/" in path)
        if fault in ("truncated", "stalled body"):
            return method == "GET"
        return fault is not None


class FaultyProxy:
    """Forward the requests of clients to an S3 server, and inject the faults of a plan.

    Args:
        upstream: address of the S3 server.

    Attributes:
        url: address for the clients.
        faults: the plan, which may be set at any time; None for no faults.
        quirk: what the server does not do as Amazon's; may be set at any time.
    """

    def __init__(self, upstream: str):
        self.faults: Faults | None = None
        self.quirk = Quirk()
        proxy, address = self, urlsplit(upstream).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.faults and proxy.faults.meets(self.command, self.path)
                if fault == "reset":
                    return self._reset()
                if fault in ANSWERS:
                    status, code = ANSWERS[fault]
                    return self._answer(status, [], f"<Error><Code>{code}</Code></Error>".encode())
                quirk = proxy.quirk
                if quirk.refused(self.command, self.path, self.headers):
                    return self._refuse(quirk)
                server = HTTPConnection(address, timeout=30)
                server.request(self.command, self.path, _flipped(body) if fault == "corrupted upload" else body, {
                    name: value for name, value in self.headers.items()
                    if name.lower() not in ("expect", *quirk.ignores.split())
                })  # fmt: skip
                answer = server.getresponse()
                content, headers = answer.read(), answer.getheaders()
                if "list-type=2" in self.path:
                    content = quirk.listing(content)
                server.close()
                if fault == "lost answer":
                    return self._reset()
                if fault == "stall":
                    time.sleep(STALL_S)
                    return self._reset()
                if fault == "corrupted download":
                    content = _flipped(content)
                self._answer(answer.status, headers, content, fault)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_request

            def _refuse(self, quirk):
                status, code = quirk.answer
                page = f"<Error><Code>{code}</Code>{quirk.details}</Error>"
                headers = [("Location", quirk.location)] if quirk.location else []
                self._answer(
                    status, headers, b"<html><body>Please log in<p></body>" if code == "<html>" else page.encode()
                )

            def _answer(self, status, headers, content, fault=None):
                cut = fault in ("truncated", "stalled body") and len(content) > 1
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                        self.send_header(name, value)
                length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[: len(content) // 2] if cut else content)
                    self.wfile.flush()
                if cut:
                    time.sleep(STALL_S if fault == "stalled body" else 0)
                    self.close_connection = True

            def _reset(self):
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def shutdown_request(self, request):
                # Close without an orderly shutdown, so that a reset is one.
                self.close_request(request)

            def handle_error(self, request, client_address):
                """Print nothing: clients that disconnect are part of the trials."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _flipped(content: bytes) -> bytes:
    """Return the content with one bit flipped, in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else content
