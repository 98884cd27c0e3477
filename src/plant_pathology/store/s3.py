"""Store bytes in an S3 bucket, or on any S3-compatible server that supports If-None-Match and checksums.

Every upload carries its SHA-256, which the server checks before it stores anything, so nothing is read back. botocore
retries failed requests (its standard mode). Credentials are found as in every AWS tool, and no message contains them.
"""

import base64
import functools
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import bytes_hash
from plant_pathology.store.backend import TRANSFERS, Writer

if TYPE_CHECKING:
    from botocore.client import BaseClient

ATTEMPTS = 5  # of each request, also when a body arrives truncated or damaged
REMEDIES = {
    "NoSuchBucket": "make the bucket, or set store.uri to another",
    "BadDigest": "a file changed while it was pushed, or on the way; push again",
    "ExpiredToken": "renew the credentials, and start again",
}


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
        if not page["IsTruncated"]:
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

    def put(self, key: str, source: Path, sha256: str) -> None:
        self._put(key, lambda: source.open("rb"), sha256)

    def create(self, key: str, content: bytes) -> bool:
        try:
            self._put(key, lambda: io.BytesIO(content), bytes_hash(content), IfNoneMatch="*")
            return True
        except FileExistsError:
            # If the reply to the first attempt was lost, the retry finds the key that the first one created.
            return self._holds(key, content)

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
        with self._s3() as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix) + "/")
            start = len(self._key(""))
            return [key[start:] for key in pages.search("Contents[].Key") if key]

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _put(self, key: str, read: Callable[[], IO[bytes]], sha256: str, **condition: str) -> None:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        encryption = {"ServerSideEncryption": self.sse} if self.sse else {}
        for attempt in range(1, ATTEMPTS + 1):
            with self._s3() as s3, read() as content:
                try:
                    # One request, because the server checks a multipart upload only part by part.
                    s3.put_object(**self._at(key), **encryption, **condition, Body=content, ChecksumSHA256=checksum)
                    return
                except s3.exceptions.ClientError as error:
                    if error.response["Error"]["Code"] != "BadDigest" or attempt == ATTEMPTS:
                        raise

    def _holds(self, key: str, content: bytes) -> bool:
        stored = io.BytesIO()
        try:
            self.fetch(key, stored)
        except FileNotFoundError:
            return False
        return stored.getvalue() == content

    @contextmanager
    def _s3(self) -> Iterator["BaseClient"]:
        """Yield the client, and translate its errors.

        Raises:
            FileExistsError, FileNotFoundError: a condition failed or a key is missing; the caller decides what to do.
            UserError: anything else, in one line with the remedy.
        """
        # Imported here, so that a store in a folder does not wait for boto3.
        from botocore import exceptions as failures

        credentials = (
            failures.NoCredentialsError,
            failures.PartialCredentialsError,
            failures.CredentialRetrievalError,
            failures.ProfileNotFound,
            failures.SSOError,
        )
        try:
            yield _client(self.endpoint_url, self.timeout_s)
        except failures.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise FileExistsError(str(self)) from None
            if code in ("404", "NoSuchKey"):
                raise FileNotFoundError(str(self)) from None
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                remedy = "try again later"
            else:
                remedy = REMEDIES.get(code, "check the credentials, and that they may list, get, put and delete")
            raise UserError(f"{self}: S3 answers {code} to {error.operation_name}: {remedy}") from None
        except credentials as error:
            raise UserError(f"{self}: {error}: run `aws configure` or `aws sso login`, or set AWS_PROFILE") from None
        except failures.BotoCoreError as error:
            raise UserError(f"{self}: {error}: check store.uri, store.endpoint_url and the network") from None


@functools.cache
def _client(endpoint_url: str | None, timeout_s: float) -> "BaseClient":
    """Create the client once per process; all threads share it."""
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
    )
    try:
        # A separate session, because creating clients from the default one is not thread-safe.
        return boto3.Session().client("s3", endpoint_url=endpoint_url, config=options)
    except ValueError as error:
        raise UserError(f"store.endpoint_url: {error}: write http(s)://<host>:<port>") from None
