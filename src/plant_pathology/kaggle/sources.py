"""Compare names of datasets, competitions, kernels, models and images, which Kaggle spells in several ways.

Seen, as of November 2026: `owner/slug`, `datasets/owner/slug`, `c/slug`, `competitions/slug`, a version behind the
name, other capitals than were sent, a slash at the end, a whole address.
"""

import re


def is_same(theirs: str, ours: str) -> bool:
    """Return whether a name on Kaggle is ours: its words, one after the other, are among theirs."""
    there, here = words_of(theirs), words_of(ours)
    return bool(here) and any(there[start : start + len(here)] == here for start in range(len(there)))


def is_same_image(theirs: str, ours: str) -> bool:
    """Return whether an image on Kaggle may be ours: a tag and a digest (sha256) of it cannot be compared."""
    digest = "sha256:"
    return is_same(theirs, ours) or (digest in theirs.lower()) != (digest in ours.lower())


def slug_of(name: str) -> str:
    """Return the last word of owner/slug in any spelling: without a version, a query, or a slash at the end."""
    words = words_of(name)
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in ("versions", "version")):
        words.pop()
    return words[-1] if words else ""


def words_of(name: str) -> list[str]:
    return [word for word in re.split(r"[/:@\s]+", re.split(r"[?#]", name)[0].lower()) if word]
