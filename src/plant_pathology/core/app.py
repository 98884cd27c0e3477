"""Run a function as a Hydra command line whose user errors are one line and whose `--help` is readable."""

import argparse
import functools
import gc
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from plant_pathology.core.checkout import checkout, require_checkout
from plant_pathology.core.ending import end, one_line_ending, program
from plant_pathology.core.keys import keys_of
from plant_pathology.core.own_file import require_own_file
from plant_pathology.core.schema import check_config
from plant_pathology.core.stages import told

if sys.version_info >= (3, 14):
    # argparse expands each help text at once there, and Hydra 1.3 gives it one that is no text. `print_help` has ours.
    argparse.ArgumentParser._check_help = lambda self, action: None


def command(main: Callable[[DictConfig], Any], check: bool = True) -> Callable[[], None]:
    """Make `main` a Hydra app on conf/config.yaml; what a user or the system did ends it with one line.

    `--help` prints the docstring of main's module, then every key with its value, range and meaning.

    Args:
        check: check the config against the schema first; False where `main` does so itself.
    """

    composed = False

    @functools.wraps(main)
    def job(cfg: DictConfig) -> Any:
        nonlocal composed
        composed = True
        # Here too: Hydra would print a line of its own for an error that leaves a job.
        with one_line_ending():
            require_own_file(cfg, HydraConfig.get())
            if check:
                check_config(cfg)
            return main(cfg)

    app = hydra.main(version_base="1.3", config_path=str(checkout() / "conf"), config_name="config")(job)

    @program
    @functools.wraps(main)
    def run() -> None:
        require_checkout()
        # Hydra would print its own errors in several lines and cut the traceback of others.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        # Hydra warns of a callback's error and goes on as if nothing had happened.
        warnings.filterwarnings("error", message=r"Callback \S+ raised ")
        # What is imported stays: exempt it from garbage collection, which would search it while Hydra composes.
        gc.freeze()
        try:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print_help(main)
            else:
                owner = inspect.getmodule(main) if main.__name__ == "main" else main  # a verb has its own purpose
                with told(main.__name__, (inspect.getdoc(owner) or "").partition("\n")[0]):
                    app()
        except Exception as error:
            # Imported here: only errors need it.
            from plant_pathology.core.composing import why_not_composed

            if composed or (line := why_not_composed(error, options())) is None:
                raise
            end(error, line)
        finally:
            # Skip garbage collection at exit: with torch loaded it takes up to a second.
            gc.freeze()

    return run


def options() -> dict[str, list[str]]:
    """Return the options of launchers and sweepers, each with those that have it, such as hydra/launcher=local."""
    from plant_pathology.core.reference import plugin_options

    found: dict[str, list[str]] = {}
    for title, prefix, owner in plugin_options():
        for each in keys_of(owner, prefix):
            found.setdefault(each.name, []).append(title)
    return found


def print_help(main: Callable[[DictConfig], Any]) -> None:
    """Print what a command does, and every key as the command line sets it."""
    # Imported here: only --help needs it.
    from plant_pathology.core.reference import help_text

    print(inspect.getdoc(inspect.getmodule(main)) or "", end="\n\n")
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
