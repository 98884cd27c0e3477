"""Keep push and gc apart, so that gc never deletes an object that a push has just found and will refer to.

This is NOT the lock of a training run: claims concern only the store's objects.

A push and a gc each write a claim into the store before they read anything else, and then look for claims of the other
kind: of two that overlap, at least one sees the other and withdraws. All claims are in one folder, because NFS shows a
machine the latest list only of a folder into which it has just written.

The claim is deleted when the work ends. The claim of a killed process counts until it is older than its lifetime by the
store's clock; the owner itself stops relying on it at half its lifetime, by a clock that, where the system has one,
also runs while the machine sleeps.

The one assumption: no request arrives later than half a lifetime after its owner last looked at that clock.
"""

import itertools
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from plant_pathology.core.errors import BusyError, UserError
from plant_pathology.core.processes import monotonic_awake
from plant_pathology.store.backend import Backend

LIFETIME_S = {"push": 6 * 3600.0, "gc": 600.0}
POLL_S = 1.0  # how often a push checks whether a gc has ended


@dataclass(frozen=True)
class Claim:
    """One push or gc that is at work.

    Attributes:
        kind: push or gc.
        key: of the claim in the store.
        began: by this machine's clock, `monotonic_awake`.
    """

    backend: Backend
    kind: str
    key: str
    began: float

    def is_fresh(self) -> bool:
        """Return whether less than half the lifetime has passed, so that what was read under the claim still holds."""
        return monotonic_awake() - self.began < LIFETIME_S[self.kind] / 2

    def is_held(self) -> bool:
        """Return whether the claim is fresh and nobody has deleted it."""
        return self.is_fresh() and self.backend.size(self.key) is not None

    def find_rival(self, kind: str) -> float | None:
        """Return when a valid claim of `kind` began, by the store's clock, or None; delete expired claims."""
        now = self.backend.modified(self.key)
        for key in self.backend.keys("claims"):
            if not key.startswith(f"claims/{kind}"):
                continue
            began = self.backend.modified(key)
            if began is None:
                continue
            if now is None or now - began < LIFETIME_S[kind]:
                return began
            self.backend.delete(key)
        return None


@contextmanager
def claim(backend: Backend, kind: str, rival: str) -> Iterator[Claim]:
    """Claim the store for a push or a gc (`kind`).

    Raises:
        BusyError: a `rival` (the other kind) is at work.
    """
    began, name = monotonic_awake(), uuid.uuid4().hex
    own = Claim(backend, kind, f"claims/{kind}-{name}", began)
    backend.create(own.key, name.encode())
    try:
        if (since := own.find_rival(rival)) is not None:
            start, end = (
                datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
                for seconds in (since, since + LIFETIME_S[rival])
            )
            raise BusyError(
                f"{backend}: a {rival} that began at {start} is at work: start again when it has ended;"
                f" one that was killed counts until {end}"
            )
        yield own
    finally:
        # A claim that cannot be deleted expires; the work itself is done.
        with suppress(UserError, OSError):
            backend.delete(own.key)


@contextmanager
def claim_for_push(backend: Backend) -> Iterator[Claim]:
    """Claim the store for a push; wait while a gc is at work."""
    with ExitStack() as stack:
        for attempt in itertools.count():
            try:
                own = stack.enter_context(claim(backend, "push", rival="gc"))
                break
            except BusyError as busy:
                # Report it once, and only the second time: most gcs have ended by then.
                if attempt == 1:
                    print(f"waiting: {busy}", file=sys.stderr)
                time.sleep(POLL_S)
        yield own
