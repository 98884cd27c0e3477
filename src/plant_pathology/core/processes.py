"""What processes need to know: their cores, a clock, the end of their parent; and freezing what is imported."""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def cpu_count() -> int:
    """Return the number of cores that this process may use, which a container or `taskset` may limit."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def monotonic_awake() -> float:
    """Return seconds of a monotonic clock that, where the system has one, also runs while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))  # Linux; macOS; none on Windows
    gettime = getattr(time, "clock_gettime", None)
    return gettime(clock) if gettime and clock is not None else time.monotonic()


def when_parent_ends(action: Callable[[], object]) -> None:
    """Call `action` in a thread as soon as the process that started this one ends, even by SIGKILL.

    Without this, a worker would outlive its parent: it would wait for work forever, or train on unwatched. Outside a
    process of `multiprocessing`, do nothing.
    """
    from multiprocessing import connection, parent_process  # here, because every command imports this file

    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        action()

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def frozen_imports() -> Iterator[None]:
    """Import in this block without garbage collection, and exempt what was imported from it for good.

    torch and Lightning define hundreds of thousands of objects that stay: the collector would search them at import, at
    exit, and in every forked process, which would then copy the memory that it marks.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
