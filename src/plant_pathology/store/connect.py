"""Open the store that `store.uri` names, and the version that `data.ref` names.

A new backend is one more branch in `open_store`.
"""

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.store.cache import Cache
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.s3 import S3Backend
from plant_pathology.store.store import Store
from plant_pathology.store.version import Version


def open_store(cfg: DictConfig) -> Store:
    """Open the store at file://<folder> (relative to the current folder, or absolute) or s3://<bucket>/<prefix>.

    Raises:
        UserError: store.uri is not set, or is neither.
    """
    if OmegaConf.is_missing(cfg.store, "uri"):
        raise UserError("store.uri is not set: write store.uri=s3://<bucket>/<prefix>")
    if match := re.fullmatch(r"file://(.+)", cfg.store.uri):
        return Store(FolderBackend(Path(match[1])))
    if match := re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]+)(/.*)?", cfg.store.uri):
        prefix = (match[2] or "").strip("/")
        backend = S3Backend(match[1], prefix, cfg.store.endpoint_url, cfg.store.sse, cfg.store.timeout_s)
        return Store(backend, Cache(Path(cfg.store.cache).expanduser(), cfg.store.cache_gb * 1e9))
    # Do not print the value: people write s3://key:secret@bucket.
    raise UserError("store.uri must be file://<folder> or s3://<bucket>/<prefix>")


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
        ref, uri, sha256 = pointer["ref"], pointer["uri"], pointer["sha256"]
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
