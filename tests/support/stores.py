"""Make datastores for tests: in a folder, and on a real S3 server over HTTP, in this process or in one of its own."""

import base64
import hashlib
import io
import os
import subprocess
import sys
import threading
import uuid
from collections import Counter
from contextlib import nullcontext

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from plant_pathology.store.cache import Cache
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.s3 import S3Backend
from plant_pathology.store.store import Store

SECRET = "never-to-be-printed"
BUCKET = "team"


class KeptAlive(WSGIRequestHandler):
    """Serve many requests on one connection, as S3 does, and log nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, *arguments):
        pass


class S3Server:
    """Serve S3 over HTTP with moto, and add what moto lacks: upload checksums and an atomic If-None-Match.

    Attributes:
        url: address of the server.
        client: a boto3 client for it.
        requests: number of requests by (method, path).
    """

    def __init__(self):
        self.requests = Counter()
        self._app, self._lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=KeptAlive)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")
        self.client.create_bucket(Bucket=BUCKET)

    def _answer(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ |= {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
        sent = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
        if sent and base64.b64decode(sent) != hashlib.sha256(body).digest():
            start_response("400 Bad Request", [("Content-Type", "application/xml")])
            return [b"<Error><Code>BadDigest</Code></Error>"]
        with self._lock:
            self.requests[environ["REQUEST_METHOD"], environ["PATH_INFO"]] += 1
        # S3 checks If-None-Match and writes in one step, moto in two.
        with self._lock if "HTTP_IF_NONE_MATCH" in environ else nullcontext():
            return self._app(environ, start_response)

    def close(self):
        self._server.shutdown()


class S3Process:
    """Run an S3Server in its own process, so that it shares no interpreter with its clients; needs `credentials`."""

    def __init__(self):
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def close(self):
        self._process.communicate()


def credentials() -> dict[str, str]:
    """Return the environment variables that a client needs."""
    nothing = {name: os.devnull for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    return {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": SECRET} | nothing


class FolderPlace:
    """Make a store in a folder, and read and change its files directly, as a test needs."""

    def __init__(self, root):
        self.root = root / "store"
        self.overrides = [f"store.uri=file://{self.root}"]

    def store(self):
        return Store(FolderBackend(self.root))

    def raw(self, prefix):
        """Return {key: bytes} of everything below a prefix."""
        files = [path for path in (self.root / prefix).rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}

    def replace(self, key, content):
        (self.root / key).unlink()
        (self.root / key).write_bytes(content)

    def writes(self):
        """Return {key: mark}; the mark of a key changes whenever it is written."""
        return {key: (self.root / key).stat().st_ino for key in self.store().backend.keys("objects")}


class BucketPlace:
    """Make a store in a bucket, and read and change its objects directly, as a test needs.

    Args:
        url: address that clients use, such as a proxy's; None for the server's own.
        timeout_s: how long these clients wait for the server.
    """

    def __init__(self, root, s3, prefix=None, url=None, timeout_s=30):
        self.prefix, self.cache, self.s3 = prefix or uuid.uuid4().hex, root / "cache", s3
        self.url, self.timeout_s = url or s3.url, timeout_s
        self.overrides = [
            f"store.uri=s3://{BUCKET}/{self.prefix}",
            f"store.endpoint_url={self.url}",
            f"store.timeout_s={timeout_s}",
            f"store.cache={self.cache}",
        ]

    def store(self):
        objects = S3Backend(BUCKET, self.prefix, self.url, sse=None, timeout_s=self.timeout_s)
        return Store(objects, Cache(self.cache, limit=1e9))

    def raw(self, prefix):
        """Return {key: bytes} of everything below a prefix."""
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{self.prefix}/{prefix}/"
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        bodies = (self.s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys)
        return {key.removeprefix(f"{self.prefix}/"): body for key, body in zip(keys, bodies, strict=True)}

    def replace(self, key, content):
        self.s3.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}", Body=content)

    def writes(self):
        """Return {key: mark}; the mark of a key changes whenever it is written."""
        store = f"/{BUCKET}/{self.prefix}/"
        return {path: n for (method, path), n in self.s3.requests.items() if method == "PUT" and path.startswith(store)}


if __name__ == "__main__":
    os.environ |= credentials()
    print(S3Server().url, flush=True)
    sys.stdin.read()
