"""Let the kernel refuse a system call to a process and all that it starts, as disks without locks or links do.

    subprocess.run(command, preexec_fn=functools.partial(refuse, "flock", errno.ENOLCK))

Linux only (seccomp); needs no privileges.
"""

import ctypes
import platform
import struct
import sys

import pytest

NUMBERS = {
    "x86_64": {"flock": [73], "link": [86, 265], "fcntl": [72]},
    "aarch64": {"flock": [32], "link": [37], "fcntl": [25]},
}
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # of prctl
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # instructions of the kernel's packet filter
ALLOW, ANSWER = 0x7FFF0000, 0x00050000


def refuse(call: str, error: int) -> None:
    """Answer a call of this process with an error from now on.

    Args:
        call: flock, link (by any of its numbers) or fcntl.
        error: such as `errno.ENOLCK`.
    """
    numbers = NUMBERS[platform.machine()][call]
    program = [(LOAD, 0, 0, 0)]  # the number of the call
    for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
        program.append((JUMP_IF_EQUAL, left, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ANSWER | error)]
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    reference = Program(len(program), ctypes.addressof(instructions))
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, ctypes.byref(reference), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


needs_refused_calls = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in NUMBERS, reason="needs seccomp"
)
