"""Download a competition with Kaggle's client and unpack it where `make repro` finds it.

All of it happens in a folder beside the target, which gets its name at the end: the target is there when it is whole,
and an interrupted download continues.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.archives import DamagedArchive
from plant_pathology.kaggle.credentials import NO_CREDENTIALS, has_credentials
from plant_pathology.kaggle.unpack import unpack


def download(cfg: DictConfig) -> None:
    """Download the competition unless it is there.

    Raises:
        UserError: it is synthetic, there are no credentials, Kaggle refused, an archive cannot be unpacked, or another
            download of it is running.
    """
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
    if not fetched and not has_credentials():
        raise UserError(f"{NO_CREDENTIALS}, and run `make download` again")
    kept.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(kept / ".lock", timeout=0):
            if not fetched:
                fetch(competition.name, kept)
            unpack(archive, unpacked)
            if raw.is_symlink():  # to a folder that is gone, or empty
                raw.unlink()
            unpacked.rename(raw)
            shutil.rmtree(kept)
    except DamagedArchive as error:
        shutil.rmtree(kept)
        raise UserError(
            f"{competition.name}: {error}: run `make download` again, which downloads all of it again; if that is"
            " damaged too, unpack it by hand and run `make repro RAW=<folder>`"
        ) from None
    except Timeout:
        raise UserError(f"another download is working on {kept}: wait until it ends") from None
    print(f"{raw}: downloaded")


def fetch(name: str, folder: Path) -> None:
    """Make the client write <folder>/<name>.zip, and pass on what it prints.

    Raises:
        UserError: it failed, or it reported success and wrote something else.
    """
    client = [sys.executable, "-P", "-m", "kaggle"]
    command = [*client, "competitions", "download", "--competition", name, "--path", str(folder)]
    output = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0) as process:
        assert process.stdout is not None  # because of stdout=PIPE
        while block := process.stdout.read(4096):
            sys.stderr.buffer.write(block)
            sys.stderr.flush()
            output = (output + block)[-4096:]
    if process.returncode != 0 or not zipfile.is_zipfile(folder / f"{name}.zip"):
        status = re.search(r"\b(403|404|429|5\d\d)\b|Authentication required", output.decode(errors="replace"))
        raise UserError(f"the kaggle client did not download {name}: {remedy(name, status and status[0])}")


def remedy(name: str, status: str | None) -> str:
    """Return what to do about a status in the client's output."""
    page = f"https://www.kaggle.com/competitions/{name}"
    if status == "Authentication required":
        return "Kaggle refuses the token: create a new one (your picture, Settings, API)"
    if status == "403":
        return f"not allowed (403): join the competition and accept its rules on {page}/rules"
    if status == "404":
        return f"there is no such competition (404): the name must be as in {page}"
    return "see its output above; run `make download` again, it continues"
