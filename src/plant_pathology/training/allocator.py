"""Let the C library keep the memory that a training step frees for the next step."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt(3)
MOST = 2**31 - 1  # bytes: what its argument, an int, can say


def keep_freed_memory() -> None:
    """Tell glibc to return no freed memory to the system, and to ask for much at once.

    By default a large tensor's memory is mapped and unmapped each time, and the system clears every page of it. Without
    that, EfficientNet-Lite0 trains in 0.81 of the time on a CPU, with images that grow to 192 px, and at its peak a
    process holds 1.17 times the memory. Other C libraries (macOS, musl) are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, MOST)
        mallopt(M_TOP_PAD, 2**28)
