"""Download a competition with Kaggle's client and unpack it where `make repro` finds it.

The archive stays beside the target until it is unpacked, so that an interrupted download continues.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder
from plant_pathology.kaggle.credentials import NO_CREDENTIALS, has_credentials


def download(cfg: DictConfig) -> None:
    """Download the competition unless it is there.

    Raises:
        UserError: it is synthetic, there are no credentials, Kaggle refused, or the archive cannot be unpacked.
    """
    competition = Competition.from_config(cfg)
    raw = Path(cfg.paths.raw)
    if competition.synthetic:
        raise UserError(f"competition={competition.name} is synthetic: choose a competition of Kaggle")
    if (raw / competition.train_csv).exists():
        print(f"{raw}: already downloaded")
        return
    if not has_credentials():
        raise UserError(f"{NO_CREDENTIALS}, and run `make download` again")
    kept = raw.parent / f".{raw.name}-download"
    archive = kept / f"{competition.name}.zip"
    if not zipfile.is_zipfile(archive):
        fetch(competition.name, kept)
    unpack(archive, raw)
    shutil.rmtree(kept)
    print(f"{raw}: downloaded")


def fetch(name: str, folder: Path) -> None:
    """Make the client write <folder>/<name>.zip, and pass on what it prints.

    Raises:
        UserError: it failed, or it reported success and wrote something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
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


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the archive as `folder`.

    Raises:
        UserError: it is damaged, larger than the free disk space, or would write outside `folder`.
    """
    with zipfile.ZipFile(archive) as content, atomic_folder(folder) as work:
        members = content.infolist()
        size, free = sum(member.file_size for member in members), shutil.disk_usage(work).free
        if size > free:
            raise UserError(f"{folder} needs {size / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free: make room")
        with tqdm(desc="unpack", total=size, unit="B", unit_scale=True, disable=None) as bar:
            for member in members:
                try:
                    written = Path(content.extract(member, work))
                except zipfile.BadZipFile as error:
                    archive.unlink()
                    raise UserError(f"{archive} is damaged ({error}): run `make download` again") from None
                if not written.is_relative_to(work):
                    raise UserError(f"{archive} holds {member.filename}, which leads out of the folder: do not use it")
                bar.update(member.file_size)
