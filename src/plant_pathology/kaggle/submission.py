"""One submission of some bytes, and its score: found in Kaggle's list of submissions before another one is made.

The message carries the hash of the bytes. Kaggle may list a submission only some time after it took it, so a note of
the intention makes the next start wait before it submits.
"""

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.client import Kaggle, Uncertain
from plant_pathology.kaggle.journal import Journal, follow, say
from plant_pathology.kaggle.push import OUTPUT
from plant_pathology.kernel.package import Package


@dataclass(frozen=True)
class Submission:
    """One pair of folders on its way to a score."""

    kaggle: Kaggle
    package: Package
    competition: Competition
    journal: Journal
    settings: DictConfig

    @property
    def mark(self) -> str:
        """What tells this submission from all others, in Kaggle's list of them."""
        return f"sha256:{self.package.sha256[:16]}"

    @property
    def message(self) -> str:
        commit = (self.package.origin["commit"] or "no commit")[:10]
        changed = " with changes" if self.package.origin.get("uncommitted") else ""
        return f"{commit}{changed} {self.mark} kernel version {self.journal.get('kernel')}"

    def find(self) -> Any | None:
        """Our submission in Kaggle's list."""
        ref = self.journal.get("submission")
        for each in self.kaggle.submissions(self.competition.name):
            if each.ref == ref or self.mark in (each.description or ""):
                return each
        return None

    def left_today(self) -> int:
        """Submissions that Kaggle still takes today, which is a day in UTC; shown too."""
        limits = self.kaggle.submission_limits(self.competition.name)
        if limits.num_today or limits.num_allowed_now or limits.limited_by_total:
            used, left = limits.num_today, limits.num_allowed_now
        else:
            # All zero: a team that has not submitted yet, or a competition that is over.
            today = datetime.now(UTC).date()
            used = sum(
                each.date is not None and each.date.date() == today
                for each in self.kaggle.submissions(self.competition.name)
            )
            allowed = self.kaggle.competition(self.competition.name).max_daily_submissions or self.settings.daily_limit
            left = max(0, allowed - used)
        say("submissions", f"{used} used today, {left} left")
        return left

    def submit(self) -> Any:
        """The submission, ours or one that was made of these bytes before."""
        found = self.find()
        if not found and self.journal.get("submitting"):
            found = self.wait_for_listing()
        if not found:
            if self.left_today() < 1:
                raise UserError("no submissions left today: start again after midnight UTC, it continues")
            found = self.create()
        self.journal.note(submission=found.ref)
        return found

    def create(self) -> Any:
        name, kernel, version = self.competition.name, self.package.kernel, self.journal.get("kernel")
        say("submission", f"{name}: {self.message}")
        self.journal.note(submitting=True)
        said = ""
        try:
            said = self.kaggle.submit(name, kernel, version, OUTPUT, self.message).message
        except Uncertain as error:
            print(f"  {error}", file=sys.stderr)
        except UserError:
            self.journal.forget("submitting")
            raise
        if found := self.wait_for_listing():
            return found
        raise UserError(f"Kaggle lists no such submission after {self.settings.settle_s} s{said and f': {said}'}")

    def wait_for_listing(self) -> Any | None:
        deadline = time.monotonic() + self.settings.settle_s
        while not (found := self.find()) and time.monotonic() < deadline:
            time.sleep(self.settings.poll_s)
        return found

    def await_score(self) -> Any:
        """The submission with its score, or its error."""
        found = None

        def look() -> tuple[str, bool]:
            nonlocal found
            found = self.find()
            if found is None:
                raise UserError(f"submission {self.journal.get('submission')} is no longer in Kaggle's list")
            return found.status.name.lower(), found.status.name != "PENDING"

        follow("score", look, self.settings.score_timeout_s, self.settings.poll_s)
        state = found.error_description or found.status.name.lower()
        say("score", f"{state}: public {found.public_score or '-'}, private {found.private_score or '-'}")
        return found
