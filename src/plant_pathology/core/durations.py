"""Remember how long each stage took, so that it can say so when it starts again.

One file in the checkout holds the seconds of the last time of each stage that made something. It is a convenience:
where it is missing or damaged, or cannot be written, a stage says nothing about its time.
"""

import json
from contextlib import suppress
from pathlib import Path

from plant_pathology.core.checkout import checkout
from plant_pathology.core.files import write_json

FILE = Path("logs") / "durations.json"


def last_duration(stage: str) -> float | None:
    """Return the seconds that a stage took the last time, or None if that is not known."""
    return _known().get(stage)


def remember_duration(stage: str, seconds: float) -> None:
    """Keep the seconds that a stage took."""
    with suppress(OSError):
        (checkout() / FILE).parent.mkdir(exist_ok=True)
        write_json(checkout() / FILE, _known() | {stage: round(seconds, 1)})


def spoken(seconds: float) -> str:
    """Return a duration as a person says it: 90 s, 40 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _known() -> dict[str, float]:
    try:
        content = json.loads((checkout() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {stage: seconds for stage, seconds in entries if isinstance(seconds, int | float)}
