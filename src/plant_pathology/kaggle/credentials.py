"""Find out whether Kaggle's client will find credentials; only the client itself reads them."""

import os
from pathlib import Path

NO_CREDENTIALS = (
    "no Kaggle credentials: create an API token on Kaggle (your picture, Settings, API), then save it as"
    " ~/.kaggle/access_token or set KAGGLE_API_TOKEN (older: ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY)"
)


def has_credentials() -> bool:
    """Whether there is a token or key where the client looks for one."""
    home = Path.home() / ".kaggle"
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    legacy = Path(os.environ.get("KAGGLE_CONFIG_DIR") or (home if home.exists() else xdg)) / "kaggle.json"
    files = [home / "access_token", home / "access_token.txt", home / "credentials.json", legacy]
    variables = os.environ.get("KAGGLE_API_TOKEN") or (
        os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY")
    )
    return bool(variables) or any(path.exists() for path in files)
