"""Run a function as a Hydra command line whose user errors are one line and whose `--help` is readable."""

import errno
import functools
import gc
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError


def command(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """Make `main` a Hydra app on conf/config.yaml; a user's error ends it with one line instead of a traceback.

    `--help` begins with the docstring of the module of `main`.
    """

    @functools.wraps(main)
    def job(cfg: DictConfig) -> Any:
        try:
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
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(inspect.getdoc(inspect.getmodule(main)), end="\n\n")
        try:
            app()
        finally:
            # Skip garbage collection at exit: with torch loaded it takes up to a second.
            gc.freeze()

    return run


def run_verb(verbs: Mapping[str, Callable[[DictConfig], None]], usage: str) -> None:
    """Run the Hydra app that the first argument names: the command line of a module with several of them."""
    verb = sys.argv[1] if len(sys.argv) > 1 else None
    if verb in ("-h", "--help"):
        print(usage)
    elif verb in verbs:
        del sys.argv[1]
        command(verbs[verb])()
    else:
        print(usage if verb is None else f"{usage}\n\nerror: {verb!r} is not a verb of this command", file=sys.stderr)
        sys.exit(2)
