"""Bytes by key in an S3 bucket, or in any server that speaks S3 and honors If-None-Match and checksums.

Every upload carries its SHA-256, which the server compares before it stores anything; so nothing is read back. Failing
requests are repeated by botocore's standard mode. Credentials come from where every AWS tool takes them, and appear in
no message.
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
from typing import TYPE_CHECKING, BinaryIO

from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import bytes_hash
from plant_pathology.store.folder import TRANSFERS

if TYPE_CHECKING:
    from botocore.client import BaseClient

ATTEMPTS = 5  # of each request, and of a body that arrives cut or damaged
REMEDIES = {
    "NoSuchBucket": "make the bucket, or set store.uri to another",
    "BadDigest": "a file changed while it was pushed, or on the way; push again",
    "ExpiredToken": "renew the credentials, and start again",
}


@dataclass(frozen=True)
class BucketObjects:
    """A prefix of a bucket, as `Objects`.

    Args:
        prefix: folders joined by slashes; "" for the whole bucket.
        endpoint_url: another S3 server than Amazon's.
        sse: server-side encryption, AES256 or aws:kms.
        timeout_s: how long the server may be silent, in seconds, before a request counts as failed.
    """

    bucket: str
    prefix: str
    endpoint_url: str | None
    sse: str | None
    timeout_s: float = 30

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def size(self, key: str) -> int | None:
        try:
            with self._s3() as s3:
                return s3.head_object(**self._at(key))["ContentLength"]
        except FileNotFoundError:
            return None

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        with self._s3() as s3:
            page = s3.list_objects_v2(Bucket=self.bucket, Prefix=self._key(os.path.commonprefix(keys)))
        # Where all there is fits one answer, it takes no more requests.
        if not page["IsTruncated"]:
            there = {entry["Key"]: entry["Size"] for entry in page.get("Contents", [])}
            return [there.get(self._key(key)) for key in keys]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            return list(pool.map(self.size, keys))

    def fetch(self, key: str, target: BinaryIO) -> None:
        # Not by boto3's download_fileobj: when a body is cut, it writes the first bytes twice to what cannot seek.
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
            # Where the answer to the first attempt was lost, the second one finds what the first created.
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

    def _put(self, key: str, read: Callable[[], BinaryIO], sha256: str, **condition: str) -> None:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        encryption = {"ServerSideEncryption": self.sse} if self.sse else {}
        for attempt in range(1, ATTEMPTS + 1):
            with self._s3() as s3, read() as content:
                try:
                    # In one request, which the server checks as a whole; in parts it would check the parts alone.
                    s3.put_object(**self._at(key), **encryption, **condition, Body=content, ChecksumSHA256=checksum)
                    return
                except s3.exceptions.ClientError as error:
                    if error.response["Error"]["Code"] != "BadDigest" or attempt == ATTEMPTS:
                        raise

    def _holds(self, key: str, content: bytes) -> bool:
        there = io.BytesIO()
        try:
            self.fetch(key, there)
        except FileNotFoundError:
            return False
        return there.getvalue() == content

    @contextmanager
    def _s3(self) -> Iterator["BaseClient"]:
        """The client; its errors as Python's own where a caller decides, and else as one line with the remedy."""
        # Imported here: a store in a folder need not wait for boto3.
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
    """One client a process, which all threads share."""
    import boto3
    from botocore.config import Config

    # Else it tells on every run where the credentials were found.
    logging.getLogger("botocore.credentials").setLevel(logging.WARNING)
    options = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=min(10, timeout_s),
        read_timeout=timeout_s,
        max_pool_connections=2 * TRANSFERS,
        # Uploads carry their SHA-256 in a header, which is signed: no need to hash the body once more.
        s3={"payload_signing_enabled": False},
    )
    try:
        # A session of its own, because threads must not share the default one while it makes clients.
        return boto3.Session().client("s3", endpoint_url=endpoint_url, config=options)
    except ValueError as error:
        raise UserError(f"store.endpoint_url: {error}: write http(s)://<host>:<port>") from None
