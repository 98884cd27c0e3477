"""From a downloaded Kaggle image competition to a rehearsed submission kernel."""

import os
import sys
from types import TracebackType


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nothing caught: Ctrl-C while a command still imports its modules, in one line."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif sys.argv[0] != "-c":  # the server that runs are forked from; the sweep itself prints the line
        print("error: interrupted: start it again", file=sys.stderr)


sys.excepthook = _end

_module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
if sys.getfilesystemencoding() != "utf-8" and "".join(_module[:1]).startswith(f"{__name__}."):
    # Of the locale C, say. Only a new process reads and writes the names of files as what they are.
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, sys.orig_argv)
