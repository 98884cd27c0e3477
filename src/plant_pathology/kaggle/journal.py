"""Record on disk which steps of a submission are done, so that a restart continues after the last one."""

from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json, write_json

AGAIN = "start again, it continues"
MOVE_AWAY = "move it away and start again: what is on Kaggle already is found there"


class Journal:
    """The steps done for one submission, in a file that holds those of all submissions by their hash.

    Args:
        path: the file.
        sha256: of what is submitted.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self.path, self.sha256 = path, sha256
        self.all: dict[str, dict[str, Any]] = read_json(path, MOVE_AWAY) if path.exists() else {}
        if not isinstance(self.all, dict) or not all(isinstance(noted, dict) for noted in self.all.values()):
            raise UserError(f"{path} is no journal of submissions: {MOVE_AWAY}")
        self.noted = self.all.setdefault(sha256, {})

    def get(self, key: str) -> Any:
        """Return the note; None where there is none."""
        return self.noted.get(key)

    def get_of_all(self, key: str) -> list[Any]:
        return [noted[key] for noted in self.all.values() if key in noted]

    def note(self, **done: Any) -> None:
        """Add notes and write the file at once."""
        self.noted |= done
        write_json(self.path, self.all)

    def forget(self, *keys: str) -> None:
        """Remove notes and write the file at once."""
        for key in keys:
            self.noted.pop(key, None)
        write_json(self.path, self.all)

    def belongs_to(self, account: str) -> None:
        """Note the account whose steps these are.

        Raises:
            UserError: they are another one's.
        """
        noted = self.noted.get("account", account)
        if noted.lower() != account.lower():
            raise UserError(
                f"{self.path} has the steps of this submission by the account {noted}, and the token is {account}'s:"
                f" use {noted}'s token, or {MOVE_AWAY}"
            )
        self.note(account=account)
