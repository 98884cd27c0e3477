"""Store bytes in an S3 bucket, or on an S3-compatible server that keeps the promises which the store relies on.

Servers differ, so a process tries them before it relies on them: it sends requests that the server must refuse. The
answers are not kept for the next process, because the same address may lead to an older server tomorrow.
- Conditional writes (If-None-Match), and listings that show at once what was written: without them two pushes could
  take the same number, so `create` refuses such a server. S3 has no other operation that could serve as a lock.
- Every upload carries its SHA-256, which the server checks before it stores anything. What a server that does not check
  it has stored is read back and compared.

botocore retries failed requests (its standard mode). Credentials are found as in every AWS tool, and no message
contains them.
"""

import base64
import functools
import io
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import bytes_hash
from plant_pathology.store.backend import TRANSFERS, HashingWriter, Writer
from plant_pathology.store.s3_errors import ADDRESS, REGION, UPDATE, explain_answer, explain_failure, one_line

if TYPE_CHECKING:
    from botocore.client import BaseClient

ATTEMPTS = 5  # of each request, also when a body arrives truncated or damaged
WRONG_BYTES = ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")


class WrongBytesError(UserError):
    """The server received other bytes than those whose checksum was sent."""


@dataclass(frozen=True)
class S3Backend:
    """A backend in a bucket.

    Args:
        prefix: folders joined by slashes, below which all keys are; "" for the whole bucket.
        endpoint_url: of the S3 server; None for Amazon's.
        sse: server-side encryption, AES256 or aws:kms; None for the bucket's default.
        timeout_s: how long the server may send nothing before a request fails, in seconds.
    """

    bucket: str
    prefix: str
    endpoint_url: str | None
    sse: str | None
    timeout_s: float = 30

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def is_local(self) -> bool:
        return False

    def local_path(self, key: str) -> None:
        return None

    def size(self, key: str) -> int | None:
        try:
            with self._s3() as s3:
                return s3.head_object(**self._at(key))["ContentLength"]
        except FileNotFoundError:
            return None

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        with self._s3() as s3:
            page = s3.list_objects_v2(Bucket=self.bucket, Prefix=self._key(os.path.commonprefix(keys)))
        # One listing saves a request per key, if all keys fit on one page.
        if not page.get("IsTruncated"):
            found = {entry["Key"]: entry["Size"] for entry in page.get("Contents", [])}
            return [found.get(self._key(key)) for key in keys]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            return list(pool.map(self.size, keys))

    def fetch(self, key: str, target: Writer) -> None:
        # boto3's download_fileobj does not work here: after a truncated body it writes the first bytes twice, because
        # `target` cannot seek.
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        received = 0
        for attempt in range(1, ATTEMPTS + 1):
            rest = {"Range": f"bytes={received}-"} if received else {}
            with self._s3() as s3:
                body = s3.get_object(**self._at(key), **rest)["Body"]
                try:
                    for block in body.iter_chunks(1 << 20):
                        target.write(block)
                        received += len(block)
                    return
                except (HTTPClientError, IncompleteReadError):
                    if attempt == ATTEMPTS:
                        raise

    def require_space(self, size: int) -> None:
        """Do nothing: only an answer to an upload says that a server is full."""

    def put(self, key: str, source: Path, sha256: str) -> None:
        self._put(key, lambda: source.open("rb"), sha256)

    def create(self, key: str, content: bytes) -> bool:
        _check_promises(self)
        return self._create(key, content)

    def replace(self, key: str, content: bytes) -> None:
        self._put(key, lambda: io.BytesIO(content), bytes_hash(content))

    def delete(self, key: str) -> None:
        with self._s3() as s3:
            s3.delete_object(**self._at(key))

    def modified(self, key: str) -> float | None:
        try:
            with self._s3() as s3:
                return s3.head_object(**self._at(key))["LastModified"].timestamp()
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> list[str]:
        # Not boto3's paginator: it ends without an error where a server has more keys but no token for them.
        start, found, token = len(self._key("")), [], ""
        while True:
            with self._s3() as s3:
                more = {"ContinuationToken": token} if token else {}
                page = s3.list_objects_v2(Bucket=self.bucket, Prefix=self._key(prefix) + "/", **more)
            found += [entry["Key"][start:] for entry in page.get("Contents", [])]
            if not page.get("IsTruncated"):
                return found
            last, token = token, page.get("NextContinuationToken", "")
            if token in ("", last):
                raise UserError(f"{self}: the listing ends after {len(found)} of more keys: {UPDATE}")

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _create(self, key: str, content: bytes) -> bool:
        try:
            self._put(key, lambda: io.BytesIO(content), bytes_hash(content), IfNoneMatch="*")
            return True
        except FileExistsError:
            # If the reply to the first attempt was lost, the retry finds the key that the first one created.
            return self._hash(key) == bytes_hash(content)

    def _put(self, key: str, read: Callable[[], IO[bytes]], sha256: str, **condition: str) -> None:
        checked = _checks_uploads(self)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with read() as content:
                    self._send(key, content, sha256, **condition)
                if checked or self._hash(key) == sha256:
                    return
                condition = {}  # the key is this process's own now
                raise WrongBytesError(f"{self}: {key} has other bytes than were sent; push again")
            except WrongBytesError:
                if attempt == ATTEMPTS:
                    raise

    def _send(self, key: str, content: IO[bytes], sha256: str, **condition: str) -> None:
        """Send an object in one request, because a server checks a multipart upload only part by part."""
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        encryption = {"ServerSideEncryption": self.sse} if self.sse else {}
        with self._s3() as s3:
            answer = s3.put_object(**self._at(key), **encryption, **condition, Body=content, ChecksumSHA256=checksum)
        if self.sse and answer.get("ServerSideEncryption") != self.sse:
            raise UserError(f"{self}: the server did not encrypt with store.sse={self.sse}: set it up there, or null")

    def _hash(self, key: str) -> str | None:
        """Return the SHA-256 of the bytes that the server holds; None when the key does not exist."""
        try:
            self.fetch(key, writer := HashingWriter(None))
        except FileNotFoundError:
            return None
        return writer.hexdigest()

    @contextmanager
    def _s3(self) -> Iterator["BaseClient"]:
        """Yield the client, and translate its errors.

        Raises:
            FileExistsError, FileNotFoundError: a condition failed or a key is missing; the caller decides what to do.
            UserError: anything else, in one line with the remedy.
        """
        # Imported here, so that a store in a folder does not wait for boto3.
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            yield _client(self.endpoint_url, self.timeout_s, os.getpid())
        except ClientError as failure:
            status, error = failure.response["ResponseMetadata"]["HTTPStatusCode"], failure.response["Error"]
            if status == 412 or error["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise FileExistsError(str(self)) from None
            if error["Code"] in ("404", "NoSuchKey"):
                raise FileNotFoundError(str(self)) from None
            kind = WrongBytesError if error["Code"] in WRONG_BYTES else UserError
            raise kind(f"{self}: {explain_answer(failure.operation_name, status, error)}") from None
        except (BotoCoreError, ResponseParserError, RecursionError) as failure:
            # botocore follows redirects to other regions without an end, and may wrap the error that comes of it.
            if isinstance(failure, RecursionError) or "recursion" in str(failure):
                raise UserError(f"{self}: S3 redirects without an end: {REGION}, or {ADDRESS}") from None
            raise UserError(f"{self}: {explain_failure(failure)}") from None


@functools.cache
def _check_promises(backend: S3Backend) -> None:
    """Try what `create` relies on, with an object under a random name.

    Raises:
        UserError: the server does not refuse to create a key twice, or does not show at once what was written.
    """
    key = f"incoming/probe-{uuid.uuid4().hex}"
    try:
        created = backend._create(key, b"first")
        if not created or backend._create(key, b"second"):
            raise UserError(
                f"{backend}: this server ignores If-None-Match, so two pushes at once could lose a version: update it,"
                " or set store.uri to another store, such as file://<a folder that all machines share>"
            )
        if backend.size(key) != len(b"first") or key not in backend.keys("incoming"):
            raise UserError(f"{backend}: this server does not show at once what was written: {UPDATE}")
    finally:
        # `gc` deletes it where this fails.
        with suppress(UserError):
            backend.delete(key)


@functools.cache
def _checks_uploads(backend: S3Backend) -> bool:
    """Return whether the server refuses bytes that have another SHA-256 than the one sent with them."""
    key = f"incoming/probe-{uuid.uuid4().hex}"
    try:
        backend._send(key, io.BytesIO(b"these"), bytes_hash(b"others"))
    except WrongBytesError:
        return True
    backend.delete(key)
    return False


@functools.cache
def _client(endpoint_url: str | None, timeout_s: float, process: int) -> "BaseClient":
    """Create the client once per process; all threads share it.

    Args:
        process: its id, because a forked process must not use the connections of its parent.
    """
    import boto3
    from botocore.config import Config

    # Otherwise it logs at every start where it found the credentials.
    logging.getLogger("botocore.credentials").setLevel(logging.WARNING)
    options = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=min(10, timeout_s),
        read_timeout=timeout_s,
        max_pool_connections=2 * TRANSFERS,
        # The signed headers contain the SHA-256 of the body: do not hash it a second time.
        s3={"payload_signing_enabled": False},
        # The store has its own checksums, and older servers refuse those that botocore would add.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        # A separate session, because creating clients from the default one is not thread-safe.
        return boto3.Session().client("s3", endpoint_url=endpoint_url, config=options)
    except ValueError as error:
        raise UserError(f"store.endpoint_url: {one_line(str(error))}: write http(s)://<host>:<port>") from None
