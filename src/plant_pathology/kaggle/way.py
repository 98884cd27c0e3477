"""Say what the two ways to submit have in common: by a kernel (by_kernel.py) or by a file (by_file.py)."""

from collections.abc import Iterator
from typing import Protocol

from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import Journal

OUTPUT = "submission.csv"


class Way(Protocol):
    """One way to submit what was rehearsed."""

    @property
    def sha256(self) -> str:
        """The hash of what is submitted, by which Kaggle's list and the journal know it; it is submitted once."""

    @property
    def content(self) -> str:
        """What has that hash, for people."""

    @property
    def plan(self) -> dict[str, str]:
        """What has to be done before the submission, by step, for people: the journal notes a step under its name."""

    def refusals(self) -> Iterator[str]:
        """Yield the reasons not to submit it, each with a remedy."""

    def check_account(self, user: str) -> None:
        """Check that the submission can be made with this account, before anything is sent.

        Raises:
            UserError: it is another one's.
        """

    def prepare(self, kaggle: Kaggle, journal: Journal) -> None:
        """Do what has to be done before the submission; continue after an interruption.

        Raises:
            UserError: Kaggle refused a step, or would not score the result.
        """

    def note(self, journal: Journal) -> str:
        """Return the end of the submission's message: what was submitted."""

    def send(self, kaggle: Kaggle, journal: Journal, message: str) -> str:
        """Send the submission itself, and return Kaggle's reply.

        Raises:
            OutcomeUnknown: it may have been submitted.
        """
