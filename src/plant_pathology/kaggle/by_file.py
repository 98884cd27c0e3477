"""Submit by a file: what the rehearsed kernel wrote here for the test set, where the competition takes no kernels.

Nothing else goes to Kaggle: no dataset and no kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from plant_pathology.competition.form import read_form
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import file_hash
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import Journal
from plant_pathology.kernel.package import Package
from plant_pathology.kernel.submission_check import check_submission


@dataclass(frozen=True)
class ByFile:
    """The rehearsal's submission.csv as a submission.

    Args:
        path: the file.
        raw: folder of the competition's files.
    """

    path: Path
    package: Package
    competition: Competition
    raw: Path

    @cached_property
    def sha256(self) -> str:
        if not self.path.is_file():
            raise UserError(f"{self.path} does not exist: run `python -m plant_pathology.rehearse`")
        return file_hash(self.path)

    @property
    def content(self) -> str:
        return str(self.path)

    @property
    def plan(self) -> dict[str, str]:
        return {}

    def refusals(self) -> Iterator[str]:
        try:
            _ = self.sha256
            form = read_form(self.competition, self.raw)
        except UserError as error:
            yield str(error)
            return
        check = check_submission(self.path, form, self.package.bundle)
        if not check.passed:
            yield (
                f"{self.path} would not be scored: {check.detail}: rehearse on the competition's own test set, without"
                " rehearse.test_images"
            )

    def check_account(self, user: str) -> None:
        pass

    def prepare(self, kaggle: Kaggle, journal: Journal) -> None:
        pass

    def note(self, journal: Journal) -> str:
        return "rehearsed file"

    def send(self, kaggle: Kaggle, journal: Journal, message: str) -> str:
        return kaggle.submit_file(self.competition.name, self.path, message).message
