"""Say what to do about a refusal of Kaggle: by the words of its message, else by its HTTP status.

The words are those that users report, as of November 2026; Kaggle publishes no list. Each pattern is wide on purpose.
"""

import re

from plant_pathology.kaggle.journal import AGAIN

SETTINGS = "https://www.kaggle.com/settings"

# The first pattern that a message matches decides.
BY_WORDS = [
    (r"session count", f"stop one of your notebooks that run on Kaggle, or wait until one ends, then {AGAIN}"),
    (r"phone|not verified|verify your", f"verify your phone number on {SETTINGS}, then {AGAIN}"),
    (
        r"quota|accelerator hours|hours? .*(week|left|remain)",
        f"wait until Kaggle renews the quota of GPU hours, or let the kernel run without a GPU, then {AGAIN}",
    ),
    (r"accept.*rules|rules.*accept", "accept the competition's rules on {rules}"),
    (r"merg", "wait until the merger of the teams is done, and join the daily limit of both, then " + AGAIN),
    (
        r"daily|per day|submission limit|submissions? (allowed|left|remaining)|too many submissions",
        f"no submissions are left today: {AGAIN} after midnight UTC",
    ),
    (
        r"(notebook|kernel|code)s?[ -](only|competition)|only accepts? (submissions from )?(notebook|kernel)",
        "it takes notebooks only: set submit.by to kernel in the competition's file, then `dvc repro`",
    ),
    (
        r"(competition|deadline).*(closed|ended|over|passed|finished)|no longer accept|not accepting|has ended",
        "it takes no more submissions: choose another competition",
    ),
]
BY_STATUS = {
    401: "it refuses the token in {source}: create a new one (your picture, Settings, API)",
    403: "join the competition and accept its rules on {rules}, verify your phone number on " + SETTINGS + ", and"
    " set package.owner to the account that the token belongs to",
    404: "check the names: competition, package.owner, package.dataset, package.kernel",
    407: "the proxy asks for a password: set https_proxy and http_proxy to addresses with its user and password",
    409: "the name is taken, or Kaggle still processes a version of it: wait and start again, or choose another"
    " package.dataset or package.kernel",
    429: f"too many requests: wait some minutes, then {AGAIN}",
    451: "it is not offered to you: accept the rules on {rules}, and see there who may take part",
}


def says_why(message: str) -> bool:
    """Return whether a refusal's message names a cause that waiting does not remove."""
    return any(re.search(words, message, re.IGNORECASE) for words, _ in BY_WORDS)


def remedy_for(status: int | None, message: str, competition: str | None, source: str = "use") -> str:
    """Return what to do, for the end of an error message.

    Args:
        status: of the HTTP reply; None: a refusal within a reply.
        message: Kaggle's.
        competition: whose page is named.
        source: where the token was found.
    """
    page = f"https://www.kaggle.com/competitions/{competition or '<competition>'}"
    found = next((remedy for words, remedy in BY_WORDS if re.search(words, message, re.IGNORECASE)), None)
    # A gateway's words say nothing about the account.
    if found is None or (status is not None and (status in (401, 407, 429) or status >= 500)):
        other = AGAIN if status is not None and status >= 500 else "see Kaggle's message"
        found = BY_STATUS.get(status or 0, other)
    return found.replace("{rules}", f"{page}/rules").replace("{source}", source)
