"""Read the credentials that Kaggle's client would use, so that what cannot be read is told apart from what is refused.

The client takes a file that it cannot read for no credentials, and sends a token with the line end behind it. Here
blanks, quotes and byte-order marks around a secret are dropped, and the client gets the secret in its variables.
"""

import codecs
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from plant_pathology.core.errors import UserError
from plant_pathology.core.secrets import keep_secret

NO_CREDENTIALS = (
    "no Kaggle credentials: create an API token on Kaggle (your picture, Settings, API), then save it as"
    " ~/.kaggle/access_token or set KAGGLE_API_TOKEN (older: ~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY)"
)
COPY_AGAIN = "copy it once more from Kaggle (your picture, Settings, API), into a plain text file in UTF-8"
LOG_IN = "run `kaggle auth login` again"
# Of the client; KAGGLE_TOKEN is none of its documented names, but it would send that one.
VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_TOKEN")
RENEW_BEFORE = timedelta(minutes=10)
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Credentials:
    """A secret of one account, and where it was found.

    Args:
        source: a variable or a file, for people.
        secret: a token or key; of a login by `kaggle auth login`, the token that lasts some hours.
        user: name of the account, as far as the source says it.
        login: whether the secret is that of a login, which can be renewed.
    """

    source: str
    secret: str
    user: str | None = None
    login: bool = False

    @property
    def is_token(self) -> bool:
        """Whether Kaggle knows the account by the secret alone."""
        return self.login or self.user is None

    def give_to_client(self) -> None:
        """Set the variables that the client reads; a login is read by the client itself."""
        for name in VARIABLES:
            os.environ.pop(name, None)
        if not self.login:
            names = {"KAGGLE_API_TOKEN": self.secret} if self.user is None else {"KAGGLE_KEY": self.secret}
            os.environ.update(names | ({"KAGGLE_USERNAME": self.user} if self.user else {}))


def read_credentials() -> Credentials:
    """Return the credentials that the client would use, and hide them in all that is printed from now on.

    Raises:
        UserError: there are none, or the first ones cannot be read.
    """
    hide_raw_secrets()
    home = Path.home() / ".kaggle"
    token = in_variable("KAGGLE_API_TOKEN")
    if token and is_path(token):
        path = Path(token).expanduser()
        if not path.exists():
            raise UserError(
                "KAGGLE_API_TOKEN names a file that does not exist: set it to the file or to the token itself"
            )
        return token_credentials(f"{token}, which KAGGLE_API_TOKEN names,", text_of(path) or "")
    if token:
        return token_credentials("KAGGLE_API_TOKEN", token)
    files = [home / "access_token", home / "access_token.txt"]
    for path in files:
        if text := text_of(path):
            return token_credentials(shown(path), text)
    if found := key_credentials(legacy_file()):
        return found
    if text := text_of(home / "credentials.json"):
        return login_credentials(home / "credentials.json", text)
    for path in (*files, legacy_file(), home / "credentials.json"):
        if path.exists():
            raise UserError(f"{shown(path)} is empty: {COPY_AGAIN}")
    raise UserError(NO_CREDENTIALS)


def renewed(credentials: Credentials) -> Credentials:
    """Return a login with a new token, which the client's file has then, too.

    Raises:
        UserError: Kaggle refuses to renew it.
        requests.RequestException: Kaggle is not reached.
    """
    import requests  # here and below: imports that `submit.dry_run` does not need
    from kagglesdk import KaggleClient, KaggleCredentials

    with KaggleClient() as client:
        held = KaggleCredentials.load(client)
        if held is None:
            raise UserError(f"{credentials.source} holds no login: {LOG_IN}")
        try:
            held.refresh_access_token()
            token = held.get_access_token()
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code not in (400, 401, 403):
                raise
            raise UserError(f"the login in {credentials.source} has expired, and is not renewed: {LOG_IN}") from None
    keep_secret(token)
    return Credentials(credentials.source, token, credentials.user, login=True)


def token_credentials(source: str, text: str) -> Credentials:
    """Return a token's credentials.

    Raises:
        UserError: the text is no token.
    """
    if text.startswith("{"):
        raise UserError(f"{source} holds JSON, not a token: save it as ~/.kaggle/kaggle.json, or {COPY_AGAIN}")
    keep_secret(text)
    return Credentials(source, checked(source, text))


def key_credentials(path: Path) -> Credentials | None:
    """Return user and key, each from its variable or else from kaggle.json; None where one is in neither.

    Raises:
        UserError: kaggle.json is needed and does not hold them.
    """
    user, key = in_variable("KAGGLE_USERNAME"), in_variable("KAGGLE_KEY")
    source = "KAGGLE_KEY"
    if not (user and key) and (text := text_of(path)):
        source, content = shown(path), json_of(path, text)
        user, key = user or cleaned(content.get("username")), key or cleaned(content.get("key"))
        if missing := [name for name, value in (("username", user), ("key", key)) if not value]:
            raise UserError(
                f"{source} has no {missing[0]}: create the file again on Kaggle (your picture, Settings, API)"
            )
    if not (user and key):
        return None
    keep_secret(key, f"{user}:{key}")
    return Credentials(source, checked(source, key), checked(source, user))


def login_credentials(path: Path, text: str) -> Credentials:
    """Return the login that `kaggle auth login` saved, with a token that is good for some minutes at least.

    Raises:
        UserError: the file holds none, or Kaggle does not renew it.
    """
    content = json_of(path, text)
    if not content.get("refresh_token"):
        raise UserError(f"{shown(path)} has no refresh_token: {LOG_IN}")
    token = cleaned(content.get("access_token"))
    keep_secret(*(each for each in (token, cleaned(content["refresh_token"])) if each))
    found = Credentials(shown(path), token or "", cleaned(content.get("username")), login=True)
    try:
        until = datetime.fromisoformat(content.get("access_token_expiration") or "1970-01-01T00:00+00:00")
    except (TypeError, ValueError):
        until = datetime.fromtimestamp(0, UTC)
    is_fresh = token and until.replace(tzinfo=until.tzinfo or UTC) > datetime.now(UTC) + RENEW_BEFORE
    return found if is_fresh else renewed(found)


def text_of(path: Path) -> str | None:
    """Return a file's text without blanks and quotes around it; None where it is missing or empty.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror}): make it a file that you may read") from None
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        return cleaned(raw.decode(encoding))
    except UnicodeError:
        raise UserError(f"{shown(path)} cannot be read (it is no text in UTF-8): {COPY_AGAIN}") from None


def json_of(path: Path, text: str) -> dict[str, Any]:
    """Return a file's JSON object.

    Raises:
        UserError: it is none.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        place = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "damaged"
        raise UserError(f"{shown(path)} cannot be read (no JSON, {place}): {COPY_AGAIN}") from None
    if not isinstance(content, dict):
        raise UserError(f"{shown(path)} cannot be read (no JSON object): {COPY_AGAIN}")
    return content


def checked(source: str, secret: str) -> str:
    """Return a secret that can stand in an HTTP header.

    Raises:
        UserError: it is empty, or has blanks or characters that no token has.
    """
    if not secret:
        raise UserError(f"{source} is empty: {COPY_AGAIN}")
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise UserError(
            f"{source} cannot be read (a token has no blanks, line ends or letters with marks): {COPY_AGAIN}"
        )
    return secret


def cleaned(text: Any) -> str | None:
    """Return text without the blanks, quotes and marks that editors and shells leave around it; None if it is empty."""
    text = str(text or "").strip("\ufeff \t\r\n\0")
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text or None


def in_variable(name: str) -> str | None:
    return cleaned(os.environ.get(name))


def is_path(token: str) -> bool:
    """Whether the value of KAGGLE_API_TOKEN names a file, which need not exist."""
    try:
        return token.startswith(("/", "./", "../", "~")) or Path(token).exists()
    except OSError:  # too long for a path
        return False


def legacy_file() -> Path:
    """Return where the client looks for kaggle.json."""
    home = Path.home() / ".kaggle"
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return Path(os.environ.get("KAGGLE_CONFIG_DIR") or (home if home.exists() else xdg)) / "kaggle.json"


def shown(path: Path) -> str:
    """Return a path as people write it, with ~ for the home folder."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def hide_raw_secrets() -> None:
    """Hide what variables hold, whatever comes of it: tokens, keys, and the passwords of proxies."""
    values = [os.environ.get(name, "") for name in VARIABLES if name != "KAGGLE_USERNAME"]
    keep_secret(*(value for value in values if value and not is_path(value)))
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy") and "@" in value:
            address = urlsplit(value if "://" in value else f"http://{value}")
            if password := address.password:
                keep_secret(password, unquote(password), f"{unquote(address.username or '')}:{unquote(password)}")
