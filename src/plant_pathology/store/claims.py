"""Who is at work on a store, so that a gc never collects what a push has just found there.

A push and a gc each put a claim of their own into the store before they look at anything else, and look for claims of
the other kind then: of two that overlap, at least one sees the other and withdraws. A claim ends with its owner's work.
One whose owner died counts until it is older than its life by the store's clock; the owner itself stops relying on it
at half of that, by a clock that also runs while the machine sleeps.

The one assumption: no request arrives later than half a life after its owner last looked at that clock.
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
from plant_pathology.store.folder import Objects

LIFE = {"push": 6 * 3600.0, "gc": 600.0}  # seconds
PATIENCE = 1.0  # seconds between two looks whether a gc has ended
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class Claim:
    """That a `kind`, push or gc, is at work since `began`, by this machine's clock."""

    objects: Objects
    kind: str
    key: str
    began: float

    def fresh(self) -> bool:
        """Whether what was seen under this claim can be relied on still."""
        return time.clock_gettime(CLOCK) - self.began < LIFE[self.kind] / 2

    def holds(self) -> bool:
        """As `fresh`, and nobody has revoked it."""
        return self.fresh() and self.objects.size(self.key) is not None

    def rival(self, kind: str) -> float | None:
        """When the claim of a living `kind` began, in seconds by the store's clock; claims of the dead are revoked."""
        now = self.objects.modified(self.key)
        for key in self.objects.keys(f"claims/{kind}"):
            began = self.objects.modified(key)
            if began is None:
                continue
            if now is None or now - began < LIFE[kind]:
                return began
            self.objects.delete(key)
        return None


@contextmanager
def claim(objects: Objects, kind: str, rival: str) -> Iterator[Claim]:
    """Claim the store for a `kind`.

    Raises:
        BusyError: a `rival` is at work.
    """
    began, name = time.clock_gettime(CLOCK), uuid.uuid4().hex
    mine = Claim(objects, kind, f"claims/{kind}/{name}", began)
    objects.create(mine.key, name.encode())
    try:
        if (since := mine.rival(rival)) is not None:
            at, end = (
                datetime.fromtimestamp(t, UTC).isoformat(timespec="seconds") for t in (since, since + LIFE[rival])
            )
            raise BusyError(
                f"{objects}: a {rival} that began at {at} is at work: start again when it has ended;"
                f" one that was killed counts until {end}"
            )
        yield mine
    finally:
        # What cannot be released now counts as dead later; the work itself is done.
        with suppress(UserError, OSError):
            objects.delete(mine.key)


@contextmanager
def pushing(objects: Objects) -> Iterator[Claim]:
    """Claim the store for a push, after any gc."""
    with ExitStack() as stack:
        for look in itertools.count():
            try:
                mine = stack.enter_context(claim(objects, "push", rival="gc"))
                break
            except BusyError as busy:
                # Most have ended by the second look.
                if look == 1:
                    print(f"waiting: {busy}", file=sys.stderr)
                time.sleep(PATIENCE)
        yield mine
