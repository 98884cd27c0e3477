"""Submit by a kernel: Kaggle runs it again on the hidden test set, and scores what it writes.

The steps before the submission are in push.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from plant_pathology.competition.form import read_form
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import Journal
from plant_pathology.kaggle.progress import wait_until_shown
from plant_pathology.kaggle.push import Push
from plant_pathology.kaggle.way import OUTPUT
from plant_pathology.kernel.package import Package

PLACEHOLDER = "KAGGLE_USERNAME"


@dataclass(frozen=True)
class ByKernel:
    """The package as a submission.

    Args:
        raw: folder of the competition's files.
        output: where the output of the kernel on Kaggle is downloaded to.
    """

    package: Package
    competition: Competition
    raw: Path
    output: Path
    settings: DictConfig

    @property
    def sha256(self) -> str:
        return self.package.sha256

    @property
    def content(self) -> str:
        return str(self.package.folder)

    @property
    def plan(self) -> dict[str, str]:
        package = self.package
        return {
            "dataset": f"create {package.dataset} or its next version, {', '.join(sorted(package.data_files))}; wait",
            "kernel": f"push {package.kernel} from {package.folder}/submission; wait until it has run",
            "output": f"download {OUTPUT} and check it",
        }

    def refusals(self) -> Iterator[str]:
        for ref in (self.package.kernel, self.package.dataset):
            if ref.startswith(f"{PLACEHOLDER}/"):
                yield f"{ref}: set package.owner in conf/params.yaml to your Kaggle user name, then `make repro`"
                break

    def check_account(self, user: str) -> None:
        for ref in (self.package.dataset, self.package.kernel):
            owner = ref.partition("/")[0]
            if owner.lower() != user.lower():
                raise UserError(
                    f"{ref} is {owner}'s, but the token is of the account {user}: set package.owner={user} in"
                    f" conf/params.yaml, then `make repro`; or use {owner}'s token"
                )

    def prepare(self, kaggle: Kaggle, journal: Journal) -> None:
        form = read_form(self.competition, self.raw)
        push = Push(kaggle, self.package, journal, self.settings)
        if not journal.get("kernel"):
            push.upload_dataset()
            push.push_kernel()
        push.wait_for_kernel()
        push.download_output(form, self.output)

    def note(self, journal: Journal) -> str:
        return f"kernel version {journal.get('kernel')}"

    def send(self, kaggle: Kaggle, journal: Journal, message: str) -> str:
        name, kernel, version = self.competition.name, self.package.kernel, journal.get("kernel")
        # A refusal as absent submitted nothing, and Kaggle may not know yet that the kernel has run.
        reply = wait_until_shown(
            "submission", lambda: kaggle.submit_kernel(name, kernel, version, OUTPUT, message), self.settings
        )
        return reply.message
