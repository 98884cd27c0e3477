"""Download a competition with Kaggle's client and unpack it where `make repro` finds it.

All of it happens in a folder beside the target, which gets its name at the end: the target is there when it is whole,
and an interrupted download continues.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.ending import REMEDIES
from plant_pathology.core.errors import UserError
from plant_pathology.core.secrets import hide_secrets_in_output
from plant_pathology.kaggle.archives import DamagedArchive
from plant_pathology.kaggle.credentials import Credentials, read_credentials
from plant_pathology.kaggle.journal import AGAIN
from plant_pathology.kaggle.remedies import remedy_for
from plant_pathology.kaggle.unpack import unpack

# Where the client names a status: of an answer, of its own retries, of a proxy. Other numbers are lines and bytes.
STATUS = re.compile(
    r"\b(\d{3}) (?:Client|Server) Error\b|(?:\bHTTP|Unexpected status code|Tunnel connection failed:) (\d{3})\b"
)
# Where it shows Kaggle's message in the status's place.
HINTS = {
    "Authentication required": 401,
    "You don't have access to this resource": 403,
    "The resource was not found": 404,
    "You have been rate limited": 429,
}


def download(cfg: DictConfig) -> None:
    """Download the competition unless it is there.

    Raises:
        UserError: it is synthetic, there are no credentials, Kaggle refused, an archive cannot be unpacked, or another
            download of it is running.
    """
    hide_secrets_in_output()
    competition = Competition.from_config(cfg)
    raw = Path(cfg.paths.raw)
    if competition.synthetic:
        raise UserError(f"competition={competition.name} is synthetic: choose a competition of Kaggle")
    if raw.is_dir() and any(raw.iterdir()):
        print(f"{raw}: already downloaded")
        return
    kept = raw.parent / f".{raw.name}-download"
    archive, unpacked = kept / f"{competition.name}.zip", kept / "unpacked"
    # The archive is deleted as soon as it is unpacked, before those in it are.
    fetched = zipfile.is_zipfile(archive) or (unpacked.exists() and not archive.exists())
    source = ""
    if not fetched:
        credentials = read_credentials_online(competition.download)
        credentials.give_to_client()
        source = credentials.source
    kept.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(kept / ".lock", timeout=0):
            if not fetched:
                fetch(competition.name, kept, source)
            unpack(archive, unpacked)
            if raw.is_symlink():  # to a folder that is gone, or empty
                raw.unlink()
            unpacked.rename(raw)
            shutil.rmtree(kept)
    except DamagedArchive as error:
        shutil.rmtree(kept)
        raise UserError(
            f"{competition.name}: {error}: run `{competition.download}` again, which downloads all of it again;"
            " if that is damaged too, unpack it by hand and run `make repro RAW=<folder>`"
        ) from None
    except Timeout:
        raise UserError(f"another download is working on {kept}: wait until it ends") from None
    print(f"{raw}: downloaded")


def read_credentials_online(command: str) -> Credentials:
    """Return the credentials; a login may have to be renewed first.

    Args:
        command: what downloads, for messages.

    Raises:
        UserError: there are none that can be read, or Kaggle is not reached.
    """
    try:
        return read_credentials()
    except requests.RequestException as error:
        raise UserError(f"Kaggle cannot be reached to renew the login ({type(error).__name__}): {AGAIN}") from None
    except UserError as error:
        raise UserError(f"{error}; then run `{command}` again") from None


def fetch(name: str, folder: Path, source: str) -> None:
    """Make the client write <folder>/<name>.zip, and pass on what it prints, line by line, without secrets.

    Args:
        source: where the token was found.

    Raises:
        UserError: it failed, or it reported success and wrote something else.
    """
    client = [sys.executable, "-u", "-P", "-m", "kaggle"]  # -u, lest what it says wait until it ends
    command = [*client, "competitions", "download", "--competition", name, "--path", str(folder)]
    output = waiting = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0) as process:
        assert process.stdout is not None  # because of stdout=PIPE
        while block := process.stdout.read(4096):
            output = (output + block)[-4096:]
            # Whole lines, lest a secret be cut in two; those of a progress bar end with a carriage return.
            *lines, waiting = re.split(rb"(?<=[\r\n])", waiting + block)
            sys.stderr.write(b"".join(lines).decode(errors="replace"))
            sys.stderr.flush()
            if full_disk(output):  # the client would try again for a minute
                process.terminate()
        sys.stderr.write(waiting.decode(errors="replace"))
    if process.returncode != 0 or not zipfile.is_zipfile(folder / f"{name}.zip"):
        if number := full_disk(output):
            raise UserError(f"{os.strerror(number)}: {folder}: {REMEDIES[number]}")
        raise UserError(
            f"the kaggle client did not download {name}: {remedy(name, output.decode(errors='replace'), source)}"
        )


def full_disk(output: bytes) -> int | None:
    """Return the number of the error with which the client says that a file cannot grow; None where it does not."""
    return next((each for each in (errno.ENOSPC, errno.EDQUOT) if b"[Errno %d]" % each in output), None)


def remedy(name: str, output: str, source: str) -> str:
    """Return what to do about what the client printed."""
    page = f"https://www.kaggle.com/competitions/{name}"
    status = status_in(output)
    if status == 404:
        return f"there is no such competition (404): the name must be as in {page}"
    if status is None or status >= 500:
        seen = f"see its output above{f' ({status})' if status else ''}"
        return f"{seen}; run `make download COMPETITION={name}` again, it continues"
    # The client's own hint names all causes that it knows; only Kaggle's message tells which one it is.
    return f"({status}) {remedy_for(status, output.partition('If this is a competition')[0], name, source)}"


def status_in(output: str) -> int | None:
    """Return the HTTP status that the client names last; None where it names none, as after a lost connection."""
    if hinted := next((status for words, status in HINTS.items() if words in output), None):
        return hinted
    found = STATUS.findall(output)
    return int("".join(found[-1])) if found else None
