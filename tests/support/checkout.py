"""Copy this checkout; needs no package, because sky_engine.py runs before any is installed."""

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def copy_checkout(folder: Path) -> None:
    """Copy the files of this working tree that git does not ignore, as they are now, to `folder`."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, text=True)
    for name in filter(lambda name: (PROJECT / name).is_file(), listed.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, folder / name)
