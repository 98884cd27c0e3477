"""Load a competition's own code with errors that are one line: where in its file, and what."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from plant_pathology.core.errors import UserError
from plant_pathology.inference.custom import load


def own_module(code: Path) -> ModuleType:
    """Import competitions/<name>.py.

    Raises:
        UserError: it cannot be imported.
    """
    with own_errors(code, "import"):
        return load(code)


@contextmanager
def own_errors(code: Path, what: str) -> Iterator[None]:
    """Raise any error of the competition's own code as the user's.

    Args:
        what: is called there, for the message.

    Raises:
        UserError: naming the line of `code` and the error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)  # with absolute names of files
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == code.resolve()]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{code}, line {line}" if line else f"{code}"
        raise UserError(f"{where}: {what} fails with {type(error).__name__}: {error}") from error
