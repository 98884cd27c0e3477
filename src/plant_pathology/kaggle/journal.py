"""What was done with some bytes on Kaggle, kept on disk; and what is being done, shown as it happens."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json, write_json

AGAIN = "start again, it continues"


class Journal:
    """What was done with some bytes; on disk as soon as it is noted."""

    def __init__(self, path: Path, sha256: str):
        self.path, self.sha256 = path, sha256
        self.all: dict[str, dict[str, Any]] = read_json(path, "delete it") if path.exists() else {}
        self.noted = self.all.setdefault(sha256, {})

    def get(self, key: str) -> Any | None:
        return self.noted.get(key)

    def of_all(self, key: str) -> list[Any]:
        """What is noted under the key of these and of other bytes."""
        return [noted[key] for noted in self.all.values() if key in noted]

    def note(self, **done: Any) -> None:
        self.noted |= done
        write_json(self.path, self.all)

    def forget(self, *keys: str) -> None:
        for key in keys:
            self.noted.pop(key, None)
        write_json(self.path, self.all)


def say(step: str, text: str) -> None:
    print(f"{step:<11} {text}", flush=True)


def follow(step: str, look: Callable[[], tuple[str, bool]], timeout_s: float, poll_s: float) -> None:
    """Look until it is over, at growing intervals; show each change.

    Args:
        look: what to show, and whether it is over.

    Raises:
        UserError: that takes longer than `timeout_s`.
    """
    started, shown, pause = time.monotonic(), None, poll_s
    while True:
        state, over = look()
        if over:
            return
        waited = time.monotonic() - started
        if state != shown:
            say(step, f"{state}, after {waited:.0f} s")
            shown = state
        if waited > timeout_s:
            raise UserError(f"{step}: still {state} after {waited:.0f} s: {AGAIN}")
        time.sleep(pause)
        pause = min(1.5 * pause, 6 * poll_s)
