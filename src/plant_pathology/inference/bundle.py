"""Read a bundle: bundle.json, which holds its own checksum, and the files whose checksums it holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

SPEC = "bundle.json"


class BundleError(ValueError):
    """A bundle is missing or damaged, or earlier code wrote it; the message names the file."""


def read_bundle(folder: Path) -> dict[str, Any]:
    """Return the content of bundle.json after checking it and all files that it vouches for.

    Reads every byte of the weights, about 0.1 s per 100 MB.

    Raises:
        BundleError: a file is missing, or its bytes are not those that were written.
    """
    spec = read_spec(folder)
    for name, sha256 in spec["files"].items():
        if not (folder / name).is_file():
            raise BundleError(f"{folder / name} does not exist, but {SPEC} names it")
        if sha256_of(folder / name) != sha256:
            raise BundleError(f"{folder / name} has other bytes than {SPEC} says")
    return spec


def read_spec(folder: Path) -> dict[str, Any]:
    """Return the content of bundle.json after checking it alone.

    Raises:
        BundleError: it is missing, or not what was written.
    """
    path = folder / SPEC
    try:
        spec = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist") from None
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error})") from None
    known = isinstance(spec, dict) and {"seal", "files"} <= spec.keys()
    if not known or "empty" not in spec.get("decision", ["empty"]):
        raise BundleError(f"{path} was written by an earlier version of the code")
    content = {key: value for key, value in spec.items() if key != "seal"}
    # The same text that `core/hashes.py` hashes, which does not travel to Kaggle.
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    if spec["seal"] != hashlib.sha256(canonical.encode()).hexdigest():
        raise BundleError(f"{path} does not match its own checksum")
    return spec


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; hashlib.file_digest would need Python 3.11."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
