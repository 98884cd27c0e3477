"""Print the steps of a submission, and wait for Kaggle to finish one."""

import time
from collections.abc import Callable

from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.journal import AGAIN


def show(step: str, text: str) -> None:
    """Print a line of progress."""
    print(f"{step:<11} {text}", flush=True)


def wait_until_done(step: str, look: Callable[[], tuple[str, bool]], timeout_s: float, poll_s: float) -> None:
    """Poll at growing intervals, from `poll_s` to six times that, and print each change of state.

    Args:
        look: returns the state, and whether it is final.

    Raises:
        UserError: the state is not final after `timeout_s`.
    """
    started, shown, pause = time.monotonic(), None, poll_s
    while True:
        state, done = look()
        if done:
            return
        waited = time.monotonic() - started
        if state != shown:
            show(step, f"{state}, after {waited:.0f} s")
            shown = state
        if waited > timeout_s:
            raise UserError(f"{step}: still {state} after {waited:.0f} s: {AGAIN}")
        time.sleep(pause)
        pause = min(1.5 * pause, 6 * poll_s)
