"""A secret is printed by nobody: not in another spelling, not by a library's log, not in a traceback."""

import base64
import html
import json
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest

from plant_pathology.core.secrets import keep_secret, without_secrets

SECRET = 'p/a% "s+s&wörd'


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        html.escape(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET).replace("/", "\\/"),
        repr({"key": SECRET + "\n"}),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_every_spelling_is_hidden(spelling, monkeypatch):
    monkeypatch.setattr("plant_pathology.core.secrets._kept", {SECRET})
    hidden = without_secrets(f"before {spelling} behind")
    assert hidden.startswith("before ") and hidden.endswith(" behind") and "***" in hidden
    assert not any(part in hidden for part in ("wörd", "w\\u00f6rd", "w%C3%B6rd", spelling.strip('"')))


def test_a_password_in_an_address_is_hidden_though_nobody_named_it():
    assert without_secrets("ProxyError: http://me:pass:w0rd@proxy:8080/ is gone") == (
        "ProxyError: http://me:***@proxy:8080/ is gone"
    )


def test_output_logs_and_tracebacks_of_a_process_hide_it():
    program = """
import logging, sys, warnings
logging.basicConfig(stream=sys.stdout)
from plant_pathology.core.secrets import hide_secrets_in_output, keep_secret
keep_secret("a-planted-token")
hide_secrets_in_output()
print("out a-planted-token"); print("err a-planted-token", file=sys.stderr)
logging.warning("log %s", "a-planted-token"); warnings.warn("warn a-planted-token")
sys.stderr.writelines(["lines a-planted-token"])
raise RuntimeError("a-planted-token")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    shown = done.stdout + done.stderr
    assert "a-planted-token" not in shown.replace('"a-planted-token"', "").replace('warn a-planted-token")', "")
    for each in ("out ***", "err ***", "log ***", "warn ***", "lines ***", "RuntimeError: ***"):
        assert each in shown, shown


def test_a_short_secret_does_not_hide_ordinary_words(monkeypatch):
    monkeypatch.setattr("plant_pathology.core.secrets._kept", set())
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    keep_secret("ab")
    assert without_secrets("a table about cabs") == "a table about cabs"
