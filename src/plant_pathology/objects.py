"""Where the datastore keeps its bytes: a folder or an S3 bucket, behind the same five verbs.

What is written under a key is there whole or not at all, and `create` never replaces what another process created.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from plant_pathology.stage import StageError


class Objects(Protocol):
    """Bytes by key, such as `objects/ab12` or `versions/name/000001.json`."""

    def exists(self, key: str) -> bool: ...

    def read(self, key: str) -> bytes: ...

    def upload(self, key: str, source: Path) -> None: ...

    def create(self, key: str, content: bytes) -> bool:
        """Write `content` unless the key exists; False when it does."""

    def keys(self, prefix: str) -> list[str]:
        """All keys below `prefix`, sorted."""


class FolderObjects:
    """A folder on a local or network disk.

    Args:
        root: of the store; made when first written to.
    """

    def __init__(self, root: Path):
        self.root = root

    def path(self, key: str) -> Path:
        return self.root / key

    def exists(self, key: str) -> bool:
        return self.path(key).exists()

    def read(self, key: str) -> bytes:
        return self.path(key).read_bytes()

    def upload(self, key: str, source: Path) -> None:
        with self._new_file(key) as work, source.open("rb") as content:
            with work.open("wb") as target:
                while block := content.read(1 << 20):
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())
            work.chmod(0o444)
            work.replace(self.path(key))

    def create(self, key: str, content: bytes) -> bool:
        with self._new_file(key) as work:
            with work.open("wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
            try:
                # Unlike a rename, a hard link never replaces what is there.
                os.link(work, self.path(key))
            except FileExistsError:
                return False
            return True

    def keys(self, prefix: str) -> list[str]:
        paths = (self.root / prefix).rglob("*")
        return sorted(path.relative_to(self.root).as_posix() for path in paths if path.is_file())

    @contextmanager
    def _new_file(self, key: str) -> Iterator[Path]:
        """A temporary file on the store's own disk, outside every prefix that is listed."""
        self.path(key).parent.mkdir(parents=True, exist_ok=True)
        incoming = self.root / "incoming"
        incoming.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=incoming)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


class BucketObjects:
    """A prefix of an S3 bucket, with the standard credential chain.

    Args:
        bucket, prefix: from s3://bucket/prefix.
        endpoint_url: of another S3 server than Amazon's.
        sse: server-side encryption, AES256 or aws:kms.
    """

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None, sse: str | None):
        # Imported here: a store in a folder need not wait for boto3.
        import boto3
        from botocore.config import Config

        self.bucket, self.prefix = bucket, prefix
        self._options = {"ServerSideEncryption": sse} if sse else {}
        retries = {"mode": "standard", "max_attempts": 5}
        self._client = boto3.client("s3", endpoint_url=endpoint_url, config=Config(retries=retries))

    def exists(self, key: str) -> bool:
        try:
            with self._errors():
                self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        with self._errors():
            return self._client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()

    def upload(self, key: str, source: Path) -> None:
        options = self._options | {"ChecksumAlgorithm": "SHA256"}
        with self._errors():
            self._client.upload_file(str(source), self.bucket, self._key(key), ExtraArgs=options)

    def create(self, key: str, content: bytes) -> bool:
        try:
            with self._errors():
                self._client.put_object(
                    Bucket=self.bucket, Key=self._key(key), Body=content, IfNoneMatch="*", **self._options
                )
        except FileExistsError:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._key(prefix) + "/"
        )
        skip = len(self._key(""))
        with self._errors():
            return sorted(entry["Key"][skip:] for page in pages for entry in page.get("Contents", []))

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """S3's answers as Python's own errors where the caller decides, and else as one line with the remedy."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = f"s3://{self.bucket}/{self.prefix}"
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise FileExistsError(where) from None
            if code in ("404", "NoSuchKey"):
                raise FileNotFoundError(where) from None
            if code == "NoSuchBucket":
                raise StageError(f"{where}: there is no such bucket: make it, or set store.uri") from None
            raise StageError(f"{where}: S3 answers {code}: check the credentials and their rights") from None
        except NoCredentialsError:
            raise StageError(f"{where}: no AWS credentials: run `aws configure`, or set AWS_PROFILE") from None
        except (BotoCoreError, S3UploadFailedError) as error:
            raise StageError(f"{where} cannot be reached: {error}; check store.uri and store.endpoint_url") from None


def open_objects(uri: str, endpoint_url: str | None = None, sse: str | None = None) -> Objects:
    """The store at file://folder (relative to here, or absolute) or s3://bucket/prefix.

    Raises:
        StageError: it is neither.
    """
    if uri.startswith("file://") and len(uri) > len("file://"):
        return FolderObjects(Path(uri.removeprefix("file://")))
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        return BucketObjects(parts.netloc, parts.path.strip("/"), endpoint_url, sse)
    raise StageError(f"store.uri={uri}: must be file://<folder> or s3://<bucket>/<prefix>")
