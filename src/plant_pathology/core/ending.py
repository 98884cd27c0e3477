"""End a command: in one line for what a user or the system did, with a traceback for a mistake in the code.

The line says where and what to do. Where it stands for an error that this code did not raise itself, the traceback is
kept in a log file that the line names.
"""

import errno
import functools
import os
import select
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from plant_pathology.core.errors import UserError
from plant_pathology.core.secrets import without_secrets
from plant_pathology.core.text import one_line, printable

LOG = Path("logs") / "errors.log"
LOG_BYTES = 1_000_000  # then it becomes errors.1.log, which is overwritten: no more than twice this is kept
INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13  # as shells count the ends by SIGINT and SIGPIPE

# What to do, by the number of an operating system's error.
REMEDIES = {
    errno.ENOSPC: "make room there (df shows the space, df -i how many files fit) and start again",
    errno.EDQUOT: "make room within your quota there and start again",
    errno.EACCES: "change its owner or mode, or set paths.root to a folder of yours",
    errno.EPERM: "change its owner or mode, or set paths.root to a folder of yours",
    errno.EROFS: "set paths.root to a folder on a disk that can be written to",
    errno.EMFILE: "raise the limit (ulimit -n 4096), or lower data.workers and hydra.launcher.workers",
    errno.ENFILE: "raise the limit (sysctl fs.file-max), or lower data.workers and hydra.launcher.workers",
    errno.ENOLCK: "this disk has no locks: set paths.root to a folder of a local disk",
    errno.ENAMETOOLONG: "shorten the name, or set paths.root to a folder with a shorter path",
    errno.ENOMEM: "lower data.batch_size or hydra.launcher.workers, or close other programs",
    errno.EIO: "the disk reports a fault: look at the system's log (dmesg), and copy what you need to another disk",
    errno.ESTALE: "the network disk lost it: mount the disk again and start again",
    errno.ELOOP: "it is a link that leads to itself: remove it",
    errno.ENOTDIR: "a file is where a folder is needed: move it away",
    errno.EISDIR: "a folder is where a file is needed: move it away",
    errno.ENOENT: "look for the name, or run the stage that writes it",
    errno.EEXIST: "a file, or a link to nothing, is where a folder is needed: move it away",
    errno.ECONNREFUSED: "look at the server's address, and whether it runs",
}

# Whose errors say what is wrong with a setting or a server, by package; and the setting.
OTHERS = {
    "submitit": "hydra.launcher",
    "hydra_plugins.hydra_submitit_launcher": "hydra.launcher",
    "sky": "hydra/launcher=sky",
    "optuna": "hydra.sweeper",
    "sqlalchemy": "hydra.sweeper.storage",
    "sqlite3": "a database file",
}


def program(main: Callable[[], None]) -> Callable[[], None]:
    """Make `main` the function of a command line: output in any encoding, and one line for errors."""

    @functools.wraps(main)
    def run() -> None:
        if sys.platform == "win32":
            sys.exit("error: Windows is not supported: run this in WSL, the Windows Subsystem for Linux")
        open_missing_streams()
        for stream in (sys.stdout, sys.stderr):
            if reconfigure := getattr(stream, "reconfigure", None):
                reconfigure(errors="backslashreplace")
        with one_line_ending():
            main()

    return run


def open_missing_streams() -> None:
    """Let input and output that were closed (`>&-`) lead nowhere.

    Else a file that is opened next would take their place, and messages of libraries in C would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False, encoding="utf-8"))  # noqa: SIM115  # as long as we run


@contextmanager
def one_line_ending() -> Iterator[None]:
    """End the process in one line if the block fails by what a user or the system did; let other errors pass.

    Raises:
        SystemExit: 1 after an error, 130 after Ctrl-C, 141 where nobody reads the output any more (`| head`).
    """
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and is_output_closed():
            sys.exit(PIPE_CLOSED)
        line = explain(error)
        if line is None:
            raise
        end(error, line)


def end(error: BaseException, line: str) -> NoReturn:
    """Print the line that stands for an error, and exit.

    Raises:
        SystemExit: always.
    """
    kept = None if user_error_in(error) else keep_traceback(error)
    print(f"error: {without_secrets(printable(line))}" + (f" (details: {kept})" if kept else ""), file=sys.stderr)
    if sys.stdout:
        try:
            sys.stdout.flush()
        except OSError:  # a full disk, which would refuse it once more at the exit
            write_nowhere(sys.stdout.fileno())
    sys.exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)


def explain(error: BaseException) -> str | None:
    """Return what a user can do about an error, as one line; None for a mistake in the code."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: start it again to go on"
    if isinstance(error, UserWarning) and error.__context__:  # of a Hydra callback, see app.py
        return explain(error.__context__)
    if place := place_in_own_code(error):
        return f"{place}: {type(error).__name__}: {one_line(str(error))}: mend the competition's own code"
    if is_memory(error):
        return f"memory ran out ({one_line(str(error)) or 'MemoryError'}): {REMEDIES[errno.ENOMEM]}"
    if owner := owner_of(error):
        return f"{OTHERS[owner]}: {one_line(str(error)) or type(error).__name__}"
    if isinstance(error, OSError):
        return explain_system_error(error)
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of pathlib; no container knows user 12345
        return "the home folder of this user is not known: set HOME"
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("plant_pathology"):
        return f"the package {error.name} is not installed: pip install -c requirements.lock -e ."
    return None


def user_error_in(error: BaseException) -> UserError | None:
    """Return the UserError that an error is, or that made a library raise it; None without one."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def explain_system_error(error: OSError) -> str:
    """Return an operating system's error as a line with its file, else the current folder, and the remedy."""
    if error.errno is None or error.strerror is None:  # of a library, which wrote its own text
        return one_line(str(error))
    files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    where = " and ".join(files) or f"in {Path.cwd()}"
    remedy = REMEDIES.get(error.errno)
    return one_line(f"{where}: {error.strerror}" + (f": {remedy}" if remedy else ""))


def place_in_own_code(error: BaseException) -> str | None:
    """Return file and line in a competition's own code where an error arose; None if it arose elsewhere."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).parent.name == "competitions":
        return f"{error.filename}:{error.lineno}"
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if is_own_code(frame)]
    return f"{frames[-1][0].f_code.co_filename}:{frames[-1][1]}" if frames else None


def is_own_code(frame: FrameType) -> bool:
    """Return whether a frame runs competitions/<name>.py, which inference/custom.py loads under this name."""
    return str(frame.f_globals.get("__name__", "")).startswith("competition_")


def is_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of the machine or of a GPU; torch is not imported to ask."""
    texts = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def owner_of(error: BaseException) -> str | None:
    """Return the package of OTHERS that an error comes from: by its class, or by the code that raised it."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [type(error).__module__, *frames[-1:]]
    return next((owner for owner in OTHERS for name in names if f"{name}.".startswith(f"{owner}.")), None)


def keep_traceback(error: BaseException) -> Path | None:
    """Append an error's traceback to the log, and return the log; None where no file can be written.

    In a folder that cannot be written to, the log is in the system's folder for temporary files.
    """
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')}, process {os.getpid()}, {Path(sys.argv[0]).name}\n"
    text = without_secrets(head + "".join(traceback.format_exception(error)) + "\n")
    user = os.getuid() if hasattr(os, "getuid") else ""
    for log in (LOG, Path(tempfile.gettempdir()) / f"plant_pathology-{user}" / LOG.name):
        with suppress(OSError):
            log.parent.mkdir(exist_ok=True)
            if log.exists() and log.stat().st_size > LOG_BYTES:
                log.replace(log.with_name("errors.1.log"))
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return log
    return None


def is_output_closed() -> bool:
    """Return whether nobody reads our output any more, as after `| head`; if so, write the rest of it nowhere."""
    if sys.platform == "win32":
        return False
    try:
        output = sys.stdout.fileno()
        poll = select.poll()
        poll.register(output, 0)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            return False
    except (AttributeError, OSError):  # there is no output, or it is no file
        return False
    write_nowhere(output)
    return True


def write_nowhere(output: int) -> None:
    """Lead an output to nowhere, for what is still in its buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
