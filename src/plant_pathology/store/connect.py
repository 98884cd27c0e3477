"""Open the store that `store.uri` names, and the version that `data.ref` names.

A new backend is one more branch in `open_store`.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.store.cache import Cache
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.s3 import S3Backend
from plant_pathology.store.store import Store
from plant_pathology.store.version import Version

HINTS = {
    "s3": ": a bucket's name has a-z, 0-9, '.' and '-' only",
    "gs": "; for Google's, write s3://… with store.endpoint_url=https://storage.googleapis.com and its HMAC keys",
    "https": "; the address of the server is store.endpoint_url",
    "http": "; the address of the server is store.endpoint_url",
}


def open_store(cfg: DictConfig) -> Store:
    """Open the store at file://<folder> (relative to the current folder, or absolute) or s3://<bucket>/<prefix>.

    Raises:
        UserError: store.uri is not set, or is neither.
    """
    if OmegaConf.is_missing(cfg.store, "uri"):
        raise UserError("store.uri is not set: write store.uri=s3://<bucket>/<prefix>")
    uri = str(cfg.store.uri).strip()
    if match := re.fullmatch(r"file://(.+)", uri):
        return Store(FolderBackend(_folder_of(match[1])))
    if match := re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]+)(/.*)?", uri):
        bucket, prefix = match[1], (match[2] or "").strip("/")
        check_endpoint(cfg.store.endpoint_url, bucket)
        backend = S3Backend(bucket, prefix, cfg.store.endpoint_url, cfg.store.sse, cfg.store.timeout_s)
        return Store(backend, Cache(Path(cfg.store.cache).expanduser(), cfg.store.cache_gb * 1e9))
    # Do not print the value: people write s3://key:secret@bucket.
    scheme = uri.partition("://")[0].lower()
    raise UserError(f"store.uri must be file://<folder> or s3://<bucket>/<prefix>{HINTS.get(scheme, '')}")


def _folder_of(path: str) -> Path:
    """Return the folder of a file:// URI; `~` is the home of a user.

    Raises:
        UserError: it is a path of Windows or of another machine, or nobody has that home.
    """
    if re.match(r"/?[A-Za-z]:([/\\]|$)|localhost/", path):
        raise UserError(f"store.uri=file://{path}: write file:///<absolute path>, as Linux names the folder")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"store.uri=file://{path}: there is no such user; write file:///<absolute path>") from None


def check_endpoint(url: str | None, bucket: str) -> None:
    """Check the address of an S3 server, which no message shows: it may hold a password.

    Raises:
        UserError: it is not an address alone.
    """
    if url is None:
        return
    try:
        parts = urlsplit(url)
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        raise UserError("store.endpoint_url is no address: write http(s)://<host>:<port>") from None
    if parts.scheme not in ("http", "https") or not name:
        raise UserError("store.endpoint_url must begin with http:// or https://: write http(s)://<host>:<port>")
    if "@" in parts.netloc:
        raise UserError("store.endpoint_url holds a password: remove it, and run `aws configure`")
    if parts.query or parts.fragment:
        raise UserError("store.endpoint_url has a '?' or '#', as signed links do: write http(s)://<host>:<port>")
    if name.startswith(f"{bucket}.") or bucket in parts.path.split("/"):
        raise UserError(f"store.endpoint_url holds the bucket {bucket}, which store.uri names: leave it out there")


def open_training_version(cfg: DictConfig) -> Version:
    """Open the version as `open_version` does, to train on it.

    Raises:
        UserError: also where it was prepared for another competition than the config's.
    """
    version = open_version(cfg)
    made_for = read_json(version.open("manifest.json"), "push the prepared data again").get("competition")
    if made_for not in (None, cfg.competition.name):
        raise UserError(
            f"{version.ref} holds {made_for}, and the config says competition={cfg.competition.name}: set data.ref to a"
            " version of it, or prepare and push it"
        )
    return version


def open_version(cfg: DictConfig) -> Version:
    """Open the version data.ref; where that is null, the one pushed last, which the file paths.pointer names.

    Raises:
        UserError: the version does not exist, or its content is not that which was pushed.
    """
    store = open_store(cfg)
    if cfg.data.ref:
        return store.resolve(str(cfg.data.ref))
    path = Path(cfg.paths.pointer)
    pointer = read_json(path, "run `python -m plant_pathology.datastore push`, or set data.ref")
    try:
        ref, uri, sha256 = (str(pointer[key]) for key in ("ref", "uri", "sha256"))
    except (KeyError, TypeError):
        raise UserError(f"{path} does not point to a version: run `python -m plant_pathology.datastore push`") from None
    try:
        version = store.resolve(ref)
    except UserError as error:
        raise UserError(f"{error} ({path} points to {ref} in {uri})") from None
    if version.sha256 != sha256:
        raise UserError(
            f"{path} points to another {ref}, in {uri}, than {cfg.store.uri} holds: set store.uri, or push again"
        )
    return version
