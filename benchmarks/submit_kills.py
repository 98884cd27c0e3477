"""Kill `submit` before and after each of its requests, in both ways to submit, and start it again.

    python benchmarks/submit_kills.py

The tests do so at each kind of request.
"""

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from support.kills import WAYS, killed_and_started_again, requests_of  # noqa: E402  # needs the path above


def main() -> None:
    for way, overrides in WAYS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            requests = requests_of(folder / "undisturbed", overrides)
            moments = [(number, after) for number in range(1, len(requests) + 1) for after in (False, True)]
            for number, after in moments:
                killed_and_started_again(folder / f"{number}-{after}", overrides, number, after)
            print(f"by {way}: {len(moments)} kills at {len(requests)} requests, submitted once each time", flush=True)


if __name__ == "__main__":
    main()
