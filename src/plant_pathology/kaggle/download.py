"""Fetch a competition with the kaggle client and unpack it where `make repro` finds it.

The archive stays beside the target until it is unpacked, so what was interrupted continues. The client reads its own
credentials; this module only looks whether there are any.
"""

import os
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

NO_CREDENTIALS = """no Kaggle credentials: make an API token on Kaggle (your picture, Settings, API), then either
  save it as ~/.kaggle/access_token, or
  set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or
  keep the older ~/.kaggle/kaggle.json
and run `make download` again"""


def download(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    raw = Path(cfg.paths.raw)
    if competition.synthetic:
        raise UserError(f"competition={competition.name} is drawn, not downloaded: name one of Kaggle's")
    if (raw / competition.train_csv).exists():
        print(f"{raw}: there already")
        return
    if not has_credentials():
        raise UserError(NO_CREDENTIALS)
    kept = raw.parent / f".{raw.name}-download"
    archive = kept / f"{competition.name}.zip"
    if not zipfile.is_zipfile(archive):
        fetch(competition.name, kept)
    unpack(archive, raw)
    shutil.rmtree(kept)
    print(f"{raw}: downloaded")


def has_credentials() -> bool:
    """Whether the client will find a token where it looks for one."""
    home = Path.home() / ".kaggle"
    elsewhere = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    legacy = Path(os.environ.get("KAGGLE_CONFIG_DIR") or (home if home.exists() else elsewhere)) / "kaggle.json"
    files = [home / "access_token", home / "access_token.txt", home / "credentials.json", legacy]
    named = os.environ.get("KAGGLE_API_TOKEN") or (os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"))
    return bool(named) or any(path.exists() for path in files)


def fetch(name: str, folder: Path) -> None:
    """Let the client write <folder>/<name>.zip.

    Raises:
        UserError: it could not, or it wrote something else and called that success.
    """
    folder.mkdir(parents=True, exist_ok=True)
    client = Path(sys.executable).with_name("kaggle")
    command = [client, "competitions", "download", "--competition", name, "--path", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = b""
    while block := os.read(process.stdout.fileno(), 4096):
        sys.stderr.buffer.write(block)
        sys.stderr.flush()
        said = (said + block)[-4096:]
    if process.wait() != 0 or not zipfile.is_zipfile(folder / f"{name}.zip"):
        status = re.search(r"\b(403|404|429|5\d\d)\b|Authentication required", said.decode(errors="replace"))
        raise UserError(f"the kaggle client did not download {name}: {remedy(name, status and status[0])}")


def remedy(name: str, status: str | None) -> str:
    page = f"https://www.kaggle.com/competitions/{name}"
    if status == "Authentication required":
        return "Kaggle refuses the token: make a new one"
    if status == "403":
        return f"not allowed (403): join the competition and accept its rules on {page}/rules"
    if status == "404":
        return f"there is no such competition (404): the name must be as in {page}"
    return "what it said stands above; run `make download` again, it continues"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the archive as `folder`.

    Raises:
        UserError: it is damaged, larger than the disk has room, or would write outside `folder`.
    """
    with zipfile.ZipFile(archive) as content, atomic_folder(folder) as work:
        members = content.infolist()
        size, free = sum(member.file_size for member in members), shutil.disk_usage(work).free
        if size > free:
            raise UserError(f"{folder}: needs {size / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB: make room")
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
