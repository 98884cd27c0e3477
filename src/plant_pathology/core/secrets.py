"""Hide secrets in all that this process prints: its own lines, those of libraries, logs and tracebacks.

A secret is seldom printed as it is: an HTTP header has it in base64, an address has it percent-encoded, an exception
shows it escaped.
"""

import base64
import html
import json
import logging
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
PASSWORD_IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^/\s]+(?=@)")
SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")  # in names of environment variables
SHORTEST = 4  # characters; a shorter secret would hide parts of ordinary words
SHORTEST_OF_A_VARIABLE = 8  # characters: that it is a secret is only a guess

_kept: set[str] = set()


def keep_secret(*secrets: str) -> None:
    """Hide these from now on, in every spelling."""
    _kept.update(secret for secret in secrets if len(secret) >= SHORTEST)


def hide_secrets_in_output() -> None:
    """Hide secrets in all that is written from now on to standard output, standard error and their logs."""
    sys.stdout, sys.stderr = hiding(sys.stdout), hiding(sys.stderr)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(hiding(handler.stream))


def without_secrets(text: str) -> str:
    """Return text with *** in the place of each secret, and of each password in an address.

    Secrets are what `keep_secret` was told, and the values of environment variables whose names say so.
    """
    spellings = {each for secret in (*_kept, *secrets_in_variables()) for each in spellings_of(secret)}
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    return PASSWORD_IN_ADDRESS.sub(rf"\1{HIDDEN}", text)


def secrets_in_variables() -> set[str]:
    """Return the values of environment variables with a secret by their names, but not names of files with one."""
    return {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST_OF_A_VARIABLE and SECRET_NAMES.search(name.upper()) and not names_a_file(value)
    }


@lru_cache
def spellings_of(secret: str) -> frozenset[str]:
    """Return the ways in which libraries write a secret: escaped, percent-encoded, in base64."""
    raw = secret.encode(errors="surrogateescape")
    encoded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    return frozenset(
        {
            secret,
            repr(secret)[1:-1],
            json.dumps(secret)[1:-1],
            json.dumps(secret)[1:-1].replace("/", "\\/"),
            html.escape(secret),
            quote(raw, safe=""),
            quote(raw),
            quote_plus(raw),
            *encoded,
            *(each.rstrip("=") for each in encoded),
        }
    )


@lru_cache  # asked at each line of output
def names_a_file(value: str) -> bool:
    """Return whether a variable's value is surely the name of a file; a key in base64 may begin with a slash, too."""
    try:
        return value.startswith(("./", "../", "~")) or Path(value).exists()
    except (OSError, ValueError):  # too long for a path, or no path at all
        return False


def hiding(stream: Any) -> Any:
    """Return a stream that writes to this one without secrets."""
    return stream if isinstance(stream, _HidingStream) else _HidingStream(stream)


class _HidingStream:
    """A text stream that writes no secret to the one below it."""

    def __init__(self, below: Any) -> None:
        self._below = below

    def write(self, text: str) -> int:
        self._below.write(without_secrets(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)
