"""What every stage shares: a Hydra app whose errors are one line, and outputs that appear whole or not at all."""

import errno
import functools
import gc
import inspect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf


def checkout() -> Path:
    """The folder with conf/ and notebooks/: the current one, or else the one this code lies in."""
    here = Path.cwd()
    return here if (here / "conf" / "config.yaml").exists() else Path(__file__).resolve().parents[2]


class StageError(Exception):
    """Something the user can mend. The message names the file or key, and the remedy."""


def stage(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """Make `main` a Hydra app on conf/config.yaml that ends with one line, not a traceback, on a user's error.

    `--help` begins with the module's own words.
    """

    @functools.wraps(main)
    def job(cfg: DictConfig) -> Any:
        try:
            return main(cfg)
        except StageError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            where = "there" if error.filename else f"for {Path(cfg.paths.root).resolve()}"
            sys.exit(f"error: {error}" + (f"; make room {where} and start again" if full else ""))

    app = hydra.main(version_base="1.3", config_path=str(checkout() / "conf"), config_name="config")(job)

    @functools.wraps(main)
    def command() -> None:
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(inspect.getdoc(inspect.getmodule(main)), end="\n\n")
        try:
            app()
        finally:
            # Python would look for garbage among all that was imported, for up to a second, before it gives all back.
            gc.freeze()

    return command


def run_verb(verbs: Mapping[str, Callable[[DictConfig], None]], usage: str) -> None:
    """The command line of a module with several Hydra apps: the first argument says which."""
    verb = sys.argv[1] if len(sys.argv) > 1 else None
    if verb in ("-h", "--help"):
        print(usage)
    elif verb in verbs:
        del sys.argv[1]
        stage(verbs[verb])()
    else:
        print(usage if verb is None else f"{usage}\n\nerror: {verb!r} is no verb", file=sys.stderr)
        sys.exit(2)


def check_values(
    cfg: DictConfig,
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Refuse values that cannot be, before anything is done with them.

    Args:
        choices: key, with dots, to all that it may be.
        ranges: key to the smallest and largest number it may be; a whole one where both are. Null, where it stands in
            conf/, is for the stage to fill in.

    Raises:
        StageError: naming the key and what it may be.
    """
    for key, options in choices.items():
        if (value := OmegaConf.select(cfg, key)) not in options:
            raise StageError(f"{key}={value}: choose one of {', '.join(map(str, options))}")
    for key, (low, high) in ranges.items():
        value = OmegaConf.select(cfg, key)
        whole = isinstance(low, int) and isinstance(high, int)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if value is not None and not (right and low <= value <= high):
            raise StageError(f"{key}={value}: choose a {'whole ' if whole else ''}number from {low:g} to {high:g}")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` when the block succeeds, and vanishes when it fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    work.chmod(0o755)
    try:
        yield work
        old = work.with_name(f"{work.name}-old")
        if folder.exists():
            folder.rename(old)
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose content replaces `path` when the block succeeds, and vanishes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        yield work
        work.replace(path)
    except OSError as error:
        # Writing to an open file fails without its name.
        error.filename = error.filename or str(path)
        raise
    finally:
        work.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON that a person can read, whole or not at all."""
    with whole_file(path) as work:
        work.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON that another stage wrote.

    Raises:
        StageError: there is no such file, or it holds no JSON; `remedy` says what to do then.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise StageError(f"{path} does not exist: {remedy}") from None
    except ValueError as error:
        raise StageError(f"{path} is not JSON ({error}): {remedy}") from None
