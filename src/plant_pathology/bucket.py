"""Bytes by key in an S3 bucket, or in any server that speaks S3 and honors If-None-Match.

Credentials come from where every AWS tool takes them, and appear in no message.
"""

import base64
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from plant_pathology.stage import StageError

if TYPE_CHECKING:
    from botocore.client import BaseClient

REMEDIES = {
    "NoSuchBucket": "make the bucket, or set store.uri to another",
    "BadDigest": "a file changed while it was pushed; push again",
    "ExpiredToken": "renew the credentials",
}


@dataclass(frozen=True)
class BucketObjects:
    """A prefix of a bucket, as `Objects`.

    Args:
        prefix: folders joined by slashes; "" for the whole bucket.
        endpoint_url: another S3 server than Amazon's.
        sse: server-side encryption, AES256 or aws:kms.
    """

    bucket: str
    prefix: str
    endpoint_url: str | None
    sse: str | None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def size(self, key: str) -> int | None:
        try:
            with self._s3() as s3:
                return s3.head_object(**self._at(key))["ContentLength"]
        except FileNotFoundError:
            return None

    def fetch(self, key: str, target: BinaryIO) -> None:
        with self._s3() as s3:
            s3.download_fileobj(**self._at(key), Fileobj=target)

    def put(self, key: str, source: Path, sha256: str) -> None:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        with self._s3() as s3, source.open("rb") as content:
            # In one request, which the server checks as a whole; in parts it would check the parts alone.
            s3.put_object(**self._at(key), **self._encryption(), Body=content, ChecksumSHA256=checksum)

    def create(self, key: str, content: bytes) -> bool:
        try:
            with self._s3() as s3:
                s3.put_object(**self._at(key), **self._encryption(), Body=content, IfNoneMatch="*")
        except FileExistsError:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        with self._s3() as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix) + "/")
            start = len(self._key(""))
            return [key[start:] for key in pages.search("Contents[].Key") if key]

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(key)}

    def _encryption(self) -> dict[str, str]:
        return {"ServerSideEncryption": self.sse} if self.sse else {}

    @contextmanager
    def _s3(self) -> Iterator["BaseClient"]:
        """The client; its errors as Python's own where a caller decides, and else as one line with the remedy."""
        # Imported here: a store in a folder need not wait for boto3.
        from botocore import exceptions as failures
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

        credentials = (
            failures.NoCredentialsError,
            failures.PartialCredentialsError,
            failures.CredentialRetrievalError,
            failures.ProfileNotFound,
            failures.SSOError,
        )
        try:
            yield _client(self.endpoint_url)
        except failures.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise FileExistsError(str(self)) from None
            if code in ("404", "NoSuchKey"):
                raise FileNotFoundError(str(self)) from None
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                remedy = "try again later"
            else:
                remedy = REMEDIES.get(code, "check the credentials, and that they may list, get and put")
            raise StageError(f"{self}: S3 answers {code} to {error.operation_name}: {remedy}") from None
        except credentials as error:
            raise StageError(f"{self}: {error}: run `aws configure` or `aws sso login`, or set AWS_PROFILE") from None
        except failures.BotoCoreError as error:
            raise StageError(f"{self}: {error}: check store.uri, store.endpoint_url and the network") from None
        except (RetriesExceededError, S3DownloadFailedError) as error:
            raise StageError(f"{self}: {error}: try again later") from None


@functools.cache
def _client(endpoint_url: str | None) -> "BaseClient":
    """One client a process, which all threads share."""
    import boto3
    from botocore.config import Config

    # Else it tells on every run where the credentials were found.
    logging.getLogger("botocore.credentials").setLevel(logging.WARNING)
    options = Config(retries={"mode": "standard"}, connect_timeout=10)
    try:
        # A session of its own, because threads must not share the default one while it makes clients.
        return boto3.Session().client("s3", endpoint_url=endpoint_url, config=options)
    except ValueError as error:
        raise StageError(f"store.endpoint_url: {error}: write http(s)://<host>:<port>") from None
