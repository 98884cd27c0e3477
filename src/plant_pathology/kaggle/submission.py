"""Submit once, and wait for the score.

The message of a submission has the hash of its content, by which it is found in Kaggle's list before another one is
made. Kaggle may list a submission late: the journal records the intention before the request, and a restart then waits
for the listing before it submits.
"""

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.client import Kaggle, OutcomeUnknown
from plant_pathology.kaggle.journal import AGAIN, Journal
from plant_pathology.kaggle.progress import Absent, show, wait_until_done
from plant_pathology.kaggle.way import Way
from plant_pathology.kernel.package import Package


@dataclass(frozen=True)
class Submission:
    """The submission of one package to a competition, by a kernel or by a file."""

    kaggle: Kaggle
    way: Way
    package: Package
    competition: Competition
    journal: Journal
    settings: DictConfig

    @property
    def mark(self) -> str:
        """The hash by which this submission is found in Kaggle's list."""
        return f"sha256:{self.way.sha256[:16]}"

    @property
    def message(self) -> str:
        """The text that Kaggle shows beside the submission."""
        commit = (self.package.origin["commit"] or "no commit")[:10]
        changed = " with changes" if self.package.origin.get("uncommitted") else ""
        return f"{commit}{changed} {self.mark} {self.way.note(self.journal)}"

    def find(self) -> Any | None:
        """Return our submission in Kaggle's list; None where it is not listed."""
        ref = self.journal.get("submission")
        for each in self.kaggle.submissions(self.competition.name):
            if each.ref == ref or self.mark in (each.description or ""):
                return each
        return None

    def remaining_today(self) -> int:
        """Print and return how many submissions Kaggle still accepts today; Kaggle's days are in UTC."""
        limits = self.kaggle.submission_limits(self.competition.name)
        if limits and (limits.num_today or limits.num_allowed_now or limits.limited_by_total):
            used, left = limits.num_today, limits.num_allowed_now
        else:
            # A server without this request. Or all zero: a team without submissions, or a competition that has ended.
            today = datetime.now(UTC).date()
            used = sum(
                each.date is not None and each.date.date() == today
                for each in self.kaggle.submissions(self.competition.name)
            )
            allowed = self.kaggle.competition(self.competition.name).max_daily_submissions or self.settings.daily_limit
            left = max(0, allowed - used)
        show("submissions", f"{used} used today, {left} left")
        return left

    def submit(self) -> Any:
        """Return the submission of this package; create it unless it exists.

        Raises:
            UserError: the daily limit is reached, or Kaggle refused it.
        """
        found = self.find()
        if not found and self.journal.get("submitting"):
            found = self.wait_for_listing()
        if not found:
            if self.remaining_today() < 1:
                raise UserError("no submissions left today: start again after midnight UTC, it continues")
            found = self.create()
        self.journal.note(submission=found.ref)
        return found

    def create(self) -> Any:
        """Send the submission and return it as Kaggle lists it, even if the reply to the request was lost."""
        show("submission", f"{self.competition.name}: {self.message}")
        self.journal.note(submitting=True)
        reply = ""
        try:
            reply = self.way.send(self.kaggle, self.journal, self.message)
        except OutcomeUnknown as error:
            print(f"  {error}", file=sys.stderr)
        except UserError:
            self.journal.forget("submitting")
            raise
        if found := self.wait_for_listing():
            return found
        raise UserError(
            f"Kaggle lists no such submission after {self.settings.settle_s} s{reply and f' ({reply})'}: {AGAIN}"
        )

    def wait_for_listing(self) -> Any | None:
        """Return our submission as soon as Kaggle lists it; None after settle_s seconds."""
        deadline = time.monotonic() + self.settings.settle_s
        while True:
            try:
                found = self.find()
            except Absent:
                if time.monotonic() >= deadline:
                    raise
                found = None
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(self.settings.poll_s)

    def await_score(self) -> Any:
        """Wait until Kaggle has scored or failed the submission, and return it.

        Raises:
            UserError: it is no longer listed, or not scored within score_timeout_s.
        """
        found: Any = None

        def look() -> tuple[str, bool]:
            nonlocal found
            found = self.find()
            if found is None:
                raise Absent(f"submission {self.journal.get('submission')} is not in the list of your submissions")
            return found.status.name.lower(), found.status.name in ("COMPLETE", "ERROR")

        wait_until_done("score", look, self.settings.score_timeout_s, self.settings)
        state = found.error_description or found.status.name.lower()
        show("score", f"{state}: public {found.public_score or '-'}, private {found.private_score or '-'}")
        return found
