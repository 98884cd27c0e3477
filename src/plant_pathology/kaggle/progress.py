"""Print the steps of a submission, and wait for Kaggle to finish one."""

import time
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.journal import AGAIN


class Absent(UserError):
    """Kaggle answers 404 or 403, as it also does for some time about what was just made."""


class TimedOut(UserError):
    """Kaggle has not come to the end of a step in time."""


def show(step: str, text: str) -> None:
    """Print a line of progress."""
    print(f"{step:<11} {text}", flush=True)


def wait_until_done(step: str, look: Callable[[], tuple[str, bool]], timeout_s: float, settings: DictConfig) -> None:
    """Poll at growing intervals, from `poll_s` to six times that, and print each change of state.

    What is looked at was made by us, so that Kaggle may not show it yet, for `settle_s`.

    Args:
        look: returns the state, and whether it is final.
        settings: `submit:` in conf/params.yaml.

    Raises:
        TimedOut: the state is not final after `timeout_s`.
        UserError: Kaggle shows nothing for `settle_s`.
    """
    started, shown, pause = time.monotonic(), None, settings.poll_s
    absent_since = None
    while True:
        try:
            state, done = look()
            absent_since = None
        except Absent as error:
            now = time.monotonic()
            absent_since = absent_since or now
            if now - absent_since >= settings.settle_s or now - started > timeout_s:
                raise UserError(
                    f"{step}: Kaggle does not show what was sent, even {settings.settle_s:g} s later: {AGAIN}, or wait"
                    f" longer with submit.settle_s ({error})"
                ) from None
            state, done = "not shown by Kaggle yet", False
        if done:
            return
        waited = time.monotonic() - started
        if state != shown:
            show(step, f"{state}, after {waited:.0f} s")
            shown = state
        if waited > timeout_s and absent_since is None:
            raise TimedOut(f"{step}: still {state} after {waited:.0f} s: {AGAIN}")
        time.sleep(pause)
        pause = min(1.5 * pause, 6 * settings.poll_s)


def wait_until_shown(step: str, ask: Callable[[], Any], settings: DictConfig) -> Any:
    """Return what `ask` returns, as soon as Kaggle shows it.

    Raises:
        UserError: it does not within `settle_s`.
    """
    answer: Any = None

    def look() -> tuple[str, bool]:
        nonlocal answer
        answer = ask()
        return "shown", True

    wait_until_done(step, look, settings.settle_s, settings)
    return answer
