"""Dataset and kernel to Kaggle, and the kernel to its output there; each step looks first whether it is done.

What only Kaggle knows, because we were interrupted between its act and our note of it, is asked of Kaggle: a dataset's
version carries the hash of its bytes in its note, and of a pushed kernel the source is compared.
"""

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import AGAIN, Journal, follow, say
from plant_pathology.kernel.package import Package
from plant_pathology.kernel.submission_check import check_submission

OUTPUT = "submission.csv"


@dataclass(frozen=True)
class Push:
    """Two folders on their way to a kernel that ran."""

    kaggle: Kaggle
    package: Package
    journal: Journal
    settings: DictConfig

    def bring_dataset(self) -> None:
        """The dataset has exactly our bytes, and kernels can use it."""
        ref = self.package.dataset
        found = self.kaggle.dataset(ref)
        if not self.is_ours(found):
            before = number_of(found)
            # A version note may be missing; that it is the very next version tells it as well.
            self.journal.note(dataset_before=before)
            say("dataset", f"{ref}: {'a new version' if found else 'created'}, {len(self.package.data_files)} files")
            folder = self.package.folder / "dataset"
            self.kaggle.upload_dataset(folder, self.package.data_files, note=self.dataset_note if found else None)
            reached = before + 1
        else:
            reached = number_of(found)
            say("dataset", f"{ref}: version {reached} has these bytes already")

        def look() -> tuple[str, bool]:
            state, now = self.kaggle.dataset_status(ref), self.kaggle.dataset(ref)
            if state in ("FAILED", "DELETED"):
                self.journal.forget("dataset_before")
                raise UserError(f"Kaggle could not process the dataset {ref} ({state}): {AGAIN} with a new version")
            return state.lower(), state == "READY" and number_of(now) >= reached

        follow("dataset", look, self.settings.dataset_timeout_s, self.settings.poll_s)
        if missing := self.package.data_files - self.kaggle.dataset_files(ref):
            self.journal.forget("dataset_before")
            raise UserError(f"the dataset {ref} on Kaggle lacks {', '.join(sorted(missing))}: {AGAIN}, and uploads it")
        self.journal.note(dataset=self.dataset_noted(reached))

    def dataset_noted(self, version: int) -> dict[str, Any]:
        return {"version": version, "sha256": self.package.hashes["dataset"]}

    @property
    def dataset_note(self) -> str:
        return f"sha256:{self.package.hashes['dataset']}"

    def is_ours(self, found: Any | None) -> bool:
        if found is None:
            return False
        current = number_of(found)
        notes = {version.version_number: version.version_notes or "" for version in found.versions or []}
        if "sha256:" in notes.get(current, ""):
            return self.dataset_note in notes[current]
        before = self.journal.get("dataset_before")
        interrupted = before is not None and current == before + 1
        return interrupted or self.dataset_noted(current) in self.journal.of_all("dataset")

    def push_kernel(self) -> None:
        """Our kernel is the latest version on Kaggle, as we wrote it."""
        ref, folder = self.package.kernel, self.package.folder / "submission"
        found = self.kaggle.kernel(ref)
        latest = number_of(found and found.metadata)
        before = self.journal.get("kernel_before")
        if before is not None and latest == before + 1 and self.is_our_source(found.blob.source):
            version = latest
        else:
            self.journal.note(kernel_before=latest)
            version = self.checked_push(self.kaggle.push_kernel(folder), ref)
        say("kernel", f"{ref}: pushed as version {version}")

        def look() -> tuple[str, bool]:
            now = self.kaggle.kernel(ref)
            # Where Kaggle does not tell the number, it is 0.
            shown = now is not None and now.metadata.current_version_number in (0, version)
            return "waiting for Kaggle to show it", shown

        try:
            follow("kernel", look, self.settings.settle_s, self.settings.poll_s)
            self.check_arrived(self.kaggle.kernel(ref).metadata)
        except UserError:
            self.journal.forget("kernel_before")
            raise
        self.journal.note(kernel=version)

    def checked_push(self, answer: Any, ref: str) -> int:
        """The pushed version's number. Raises: UserError on all that the client would only print, or not even that."""
        problem = None
        dropped = {
            kind: list(getattr(answer, f"invalid_{kind}_sources") or [])
            for kind in ("dataset", "competition", "kernel", "model")
        }
        slug = (answer.ref or answer.url or ref).rstrip("/").rpartition("/")[2]
        if answer.error:
            problem = answer.error
        elif any(dropped.values()):
            problem = "it did not attach " + "; ".join(f"{kind} {', '.join(v)}" for kind, v in dropped.items() if v)
        elif slug != ref.partition("/")[2]:
            problem = f"it is called {slug} there, not {ref}: set package.kernel to that, or delete that kernel"
        elif not answer.version_number:
            problem = "it does not say which version this is"
        if problem:
            self.journal.forget("kernel_before")
            raise UserError(f"Kaggle did not take the kernel as it is: {problem}")
        return answer.version_number

    def is_our_source(self, theirs: str | None) -> bool:
        path = self.package.folder / "submission" / self.package.metadata["code_file"]
        return cells(theirs or "") == cells(path.read_text())

    def check_arrived(self, theirs: Any) -> None:
        """Raises: UserError where the kernel's metadata on Kaggle is not what was pushed."""
        ours = self.package.metadata
        different = [
            f"{key}={getattr(theirs, key)!r}, not {ours[key]!r}"
            for key in ("is_private", "enable_gpu", "enable_tpu", "enable_internet")
            if getattr(theirs, key) != ours[key]
        ]
        for kind in ("dataset", "competition", "kernel", "model"):
            there = {source.lower() for source in getattr(theirs, f"{kind}_data_sources") or []}
            if lost := [source for source in ours[f"{kind}_sources"] if source.lower() not in there]:
                different.append(f"without the {kind} {', '.join(lost)}")
        if different:
            raise UserError(
                f"the kernel {self.package.kernel} arrived at Kaggle {'; '.join(different)}: see that your account may"
                " use these, then start again, it is pushed once more"
            )

    def follow_kernel(self) -> None:
        """Our version of the kernel ran to its end."""
        ref, version = self.package.kernel, self.journal.get("kernel")

        def look() -> tuple[str, bool]:
            state, reason = self.kaggle.kernel_state(ref)
            if state in ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED"):
                print(log_text(self.kaggle.kernel_output(ref)[1]), file=sys.stderr)
                self.journal.forget("kernel", "kernel_before")
                raise UserError(
                    f"the kernel {ref} failed on Kaggle ({state.lower()}{f': {reason}' if reason else ''}): its log"
                    " stands above; started again, it is pushed once more"
                )
            return state.lower(), state == "COMPLETE"

        follow("kernel", look, self.settings.kernel_timeout_s, self.settings.poll_s)
        latest = self.kaggle.kernel(ref).metadata.current_version_number
        if latest not in (0, version):
            self.journal.forget("kernel", "kernel_before")
            raise UserError(
                f"version {latest} of {ref} was pushed while version {version} ran, and Kaggle only tells of the"
                " latest: start again, ours is pushed once more"
            )

    def fetch_output(self, form: pd.DataFrame, competition: Competition, path: Path) -> None:
        """What the kernel wrote on Kaggle is a submission."""
        if self.journal.get("output"):
            return
        files, _ = self.kaggle.kernel_output(self.package.kernel)
        if OUTPUT not in files:
            raise UserError(f"the kernel {self.package.kernel} wrote no {OUTPUT} on Kaggle, only {sorted(files)}")
        self.kaggle.download(files[OUTPUT], path)
        check = check_submission(path, form, competition)
        if not check.passed:
            raise UserError(f"{path}, which the kernel wrote on Kaggle, would not be scored: {check.detail}")
        say("output", f"{path}: {check.detail}")
        self.journal.note(output=str(path))


def number_of(thing: Any | None) -> int:
    """The latest version's number, 0 where there is none."""
    return thing.current_version_number if thing else 0


def cells(source: str) -> Any:
    """A notebook's code and text, however it is written down; other source as it is."""
    try:
        return ["".join(cell["source"]) for cell in json.loads(source)["cells"]]
    except (ValueError, KeyError, TypeError):
        return source


def log_text(log: str) -> str:
    """The last lines of a kernel's log, which Kaggle keeps as a list of pieces in JSON."""
    with suppress(ValueError, KeyError, TypeError):
        log = "".join(piece["data"] for piece in json.loads(log))
    return "\n".join(log.splitlines()[-40:])
