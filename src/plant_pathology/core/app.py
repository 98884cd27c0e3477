"""Run a function as a Hydra command line whose user errors are one line and whose `--help` is readable."""

import errno
import functools
import gc
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.core.schema import check_config


def command(main: Callable[[DictConfig], Any], check: bool = True) -> Callable[[], None]:
    """Make `main` a Hydra app on conf/config.yaml; a user's error ends it with one line instead of a traceback.

    `--help` prints the docstring of main's module, then every key with its value, range and meaning.

    Args:
        check: check the config against the schema first; False where `main` does so itself.
    """

    composed = False

    @functools.wraps(main)
    def job(cfg: DictConfig) -> Any:
        nonlocal composed
        composed = True
        try:
            if check:
                check_config(cfg)
            return main(cfg)
        except UserError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            where = "there" if error.filename else f"for {Path(cfg.paths.root).resolve()}"
            sys.exit(f"error: {error}" + (f"; make room {where} and start again" if full else ""))

    app = hydra.main(version_base="1.3", config_path=str(checkout() / "conf"), config_name="config")(job)

    @functools.wraps(main)
    def run() -> None:
        if sys.platform == "win32":
            sys.exit("error: Windows is not supported: run this in WSL, the Windows Subsystem for Linux")
        # Hydra would print its own errors in several lines and cut the traceback of others.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        # What is imported stays: exempt it from garbage collection, which would search it while Hydra composes.
        gc.freeze()
        try:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print_help(main)
            else:
                app()
        except UserError as error:  # of a launcher or sweeper
            sys.exit(f"error: {error}")
        except (HydraException, OmegaConfBaseException) as error:
            if composed:
                raise
            sys.exit(f"error: {reason_of(error)}")
        finally:
            # Skip garbage collection at exit: with torch loaded it takes up to a second.
            gc.freeze()

    return run


def reason_of(error: BaseException) -> BaseException:
    """Return the user's error that caused another error, or else that one itself."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def print_help(main: Callable[[DictConfig], Any]) -> None:
    """Print what a command does, and every key as the command line sets it."""
    # Imported here: only --help needs it.
    from plant_pathology.core.reference import help_text

    print(inspect.getdoc(inspect.getmodule(main)), end="\n\n")
    with hydra.initialize_config_dir(str((checkout() / "conf").resolve()), version_base="1.3"):
        print(help_text(hydra.compose("config", [each for each in sys.argv[1:] if "=" in each])))


def run_verb(verbs: Mapping[str, Callable[[DictConfig], None]], usage: str) -> None:
    """Run the Hydra app that the first argument names: the command line of a module with several of them."""
    verb = sys.argv[1] if len(sys.argv) > 1 else None
    if verb in ("-h", "--help"):
        print(usage)
    elif verb and verb in verbs:
        del sys.argv[1]
        command(verbs[verb])()
    else:
        print(usage if verb is None else f"{usage}\n\nerror: {verb!r} is not a verb of this command", file=sys.stderr)
        sys.exit(2)
