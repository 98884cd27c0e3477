"""Find the checkout: the folder with conf/, notebooks/ and dvc.yaml."""

from pathlib import Path


def checkout() -> Path:
    """Return the current folder when it has conf/config.yaml, else the checkout that this code lies in."""
    here = Path.cwd()
    return here if (here / "conf" / "config.yaml").exists() else Path(__file__).resolve().parents[3]
