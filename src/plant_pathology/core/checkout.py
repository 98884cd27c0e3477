"""Find the checkout: the folder with conf/, notebooks/ and dvc.yaml."""

from pathlib import Path

from plant_pathology.core.errors import UserError


def checkout() -> Path:
    """Return the current folder when it has conf/config.yaml, else the checkout that this code lies in."""
    here = Path.cwd()
    return here if (here / "conf" / "config.yaml").exists() else Path(__file__).resolve().parents[3]


def require_checkout() -> None:
    """Raise a UserError where the package is installed without the files beside it, as by `pip install .`."""
    if not (checkout() / "conf" / "config.yaml").exists():
        raise UserError(
            f"{Path.cwd()} has no conf/config.yaml, and only the code is installed: clone the repository, and type this"
            " in its folder"
        )
