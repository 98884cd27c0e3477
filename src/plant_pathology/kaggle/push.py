"""Upload the dataset, push the kernel, wait until it has run, and download its output. Each step can be repeated.

If we were interrupted after Kaggle acted and before the journal recorded it, we find out from Kaggle: each dataset
version has the hash of its content in its note, and the source of the latest kernel version is compared with ours.
"""

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.inference.test_set import Form
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import AGAIN, Journal
from plant_pathology.kaggle.progress import show, wait_until_done
from plant_pathology.kaggle.way import OUTPUT
from plant_pathology.kernel.package import Package
from plant_pathology.kernel.submission_check import check_submission


@dataclass(frozen=True)
class Push:
    """The steps from the two folders to the output of a kernel that has run on Kaggle."""

    kaggle: Kaggle
    package: Package
    journal: Journal
    settings: DictConfig

    def upload_dataset(self) -> None:
        """Upload the dataset unless Kaggle has these bytes, and wait until kernels can use it.

        Raises:
            UserError: Kaggle could not process it, or lacks a file of it.
        """
        ref = self.package.dataset
        found = self.kaggle.dataset(ref)
        if not self.has_our_bytes(found):
            before = version_of(found)
            # In case Kaggle has no note for the version: after an interruption, before + 1 is ours.
            self.journal.note(dataset_before=before)
            show("dataset", f"{ref}: {'a new version' if found else 'created'}, {len(self.package.data_files)} files")
            folder = self.package.folder / "dataset"
            self.kaggle.upload_dataset(folder, self.package.data_files, note=self.dataset_note if found else None)
            reached = before + 1
        else:
            reached = version_of(found)
            show("dataset", f"{ref}: version {reached} has these bytes already")

        def look() -> tuple[str, bool]:
            state, now = self.kaggle.dataset_status(ref), self.kaggle.dataset(ref)
            if state in ("FAILED", "DELETED"):
                self.journal.forget("dataset_before")
                raise UserError(f"Kaggle could not process the dataset {ref} ({state}): {AGAIN} with a new version")
            return state.lower(), state == "READY" and version_of(now) >= reached

        wait_until_done("dataset", look, self.settings.dataset_timeout_s, self.settings.poll_s)
        if missing := self.package.data_files - self.kaggle.dataset_files(ref):
            self.journal.forget("dataset_before")
            raise UserError(f"the dataset {ref} on Kaggle lacks {', '.join(sorted(missing))}: {AGAIN}, and uploads it")
        self.journal.note(dataset=self.dataset_record(reached))

    def dataset_record(self, version: int) -> dict[str, Any]:
        return {"version": version, "sha256": self.package.hashes["dataset"]}

    @property
    def dataset_note(self) -> str:
        return f"sha256:{self.package.hashes['dataset']}"

    def has_our_bytes(self, found: Any | None) -> bool:
        """Whether the latest version of the dataset on Kaggle has the bytes of our folder."""
        if found is None:
            return False
        current = version_of(found)
        notes = {version.version_number: version.version_notes or "" for version in found.versions or []}
        if "sha256:" in notes.get(current, ""):
            return self.dataset_note in notes[current]
        before = self.journal.get("dataset_before")
        interrupted = before is not None and current == before + 1
        return interrupted or self.dataset_record(current) in self.journal.get_of_all("dataset")

    def push_kernel(self) -> None:
        """Push our kernel unless it is the latest version already, and check that Kaggle took it unchanged.

        Raises:
            UserError: Kaggle refused or changed it.
        """
        ref, folder = self.package.kernel, self.package.folder / "submission"
        found = self.kaggle.kernel(ref)
        latest = version_of(found and found.metadata)
        before = self.journal.get("kernel_before")
        if found and before is not None and latest == before + 1 and self.is_our_source(found.blob.source):
            version = latest
        else:
            self.journal.note(kernel_before=latest)
            version = self.pushed_version(self.kaggle.push_kernel(folder), ref)
        show("kernel", f"{ref}: pushed as version {version}")

        def look() -> tuple[str, bool]:
            now = self.kaggle.kernel(ref)
            # 0: Kaggle does not report the number.
            listed = now is not None and now.metadata.current_version_number in (0, version)
            return "waiting for Kaggle to list it", listed

        try:
            wait_until_done("kernel", look, self.settings.settle_s, self.settings.poll_s)
            self.check_arrived(self.latest_kernel().metadata)
        except UserError:
            self.journal.forget("kernel_before")
            raise
        self.journal.note(kernel=version)

    def latest_kernel(self) -> Any:
        """Return the kernel's latest version on Kaggle.

        Raises:
            UserError: Kaggle does not list it.
        """
        found = self.kaggle.kernel(self.package.kernel)
        if found is None:
            raise UserError(f"Kaggle does not list the kernel {self.package.kernel}: {AGAIN}")
        return found

    def pushed_version(self, answer: Any, ref: str) -> int:
        """Return the version number in Kaggle's reply to a push.

        Raises:
            UserError: Kaggle reports an error, a dropped source or another slug, which the client prints at most.
        """
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
        """Whether a source on Kaggle has the same cells as ours; Kaggle may format a notebook's JSON differently."""
        path = self.package.folder / "submission" / self.package.metadata["code_file"]
        return cells(theirs or "") == cells(path.read_text(encoding="utf-8"))

    def check_arrived(self, theirs: Any) -> None:
        """Check that the kernel's metadata on Kaggle is what was pushed.

        Raises:
            UserError: a setting or a source differs.
        """
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
                f"the kernel {self.package.kernel} arrived at Kaggle {'; '.join(different)}: check that your account"
                " may use these, then start again, it is pushed once more"
            )

    def wait_for_kernel(self) -> None:
        """Wait until our version of the kernel has run.

        Raises:
            UserError: it failed, with its log on stderr, or another version was pushed in the meantime.
        """
        ref, version = self.package.kernel, self.journal.get("kernel")

        def look() -> tuple[str, bool]:
            state, reason = self.kaggle.kernel_state(ref)
            if state in ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED"):
                print(log_text(self.kaggle.kernel_output(ref)[1]), file=sys.stderr)
                self.journal.forget("kernel", "kernel_before")
                raise UserError(
                    f"the kernel {ref} failed on Kaggle ({state.lower()}{f': {reason}' if reason else ''}): see"
                    " its log above; start again, it is pushed once more"
                )
            return state.lower(), state == "COMPLETE"

        wait_until_done("kernel", look, self.settings.kernel_timeout_s, self.settings.poll_s)
        latest = self.latest_kernel().metadata.current_version_number
        if latest not in (0, version):
            self.journal.forget("kernel", "kernel_before")
            raise UserError(
                f"version {latest} of {ref} was pushed while version {version} ran, and Kaggle reports only the"
                " latest: start again, ours is pushed once more"
            )

    def download_output(self, form: Form, path: Path) -> None:
        """Download the kernel's submission.csv to `path` and check it.

        Args:
            form: the competition's.

        Raises:
            UserError: the kernel wrote none, or Kaggle would not score it.
        """
        if self.journal.get("output"):
            return
        files, _ = self.kaggle.kernel_output(self.package.kernel)
        if OUTPUT not in files:
            raise UserError(
                f"the kernel {self.package.kernel} wrote no {OUTPUT} on Kaggle, only {sorted(files)}: see its log there"
            )
        self.kaggle.download(files[OUTPUT], path)
        check = check_submission(path, form, self.package.bundle)
        if not check.passed:
            raise UserError(f"{path}, which the kernel wrote on Kaggle, would not be scored: {check.detail}")
        show("output", f"{path}: {check.detail}")
        self.journal.note(output=str(path))


def version_of(thing: Any | None) -> int:
    """Return the number of the latest version; 0 where there is none."""
    return thing.current_version_number if thing else 0


def cells(source: str) -> Any:
    """Return the sources of a notebook's cells, independent of JSON formatting; any other source as it is."""
    try:
        return ["".join(cell["source"]) for cell in json.loads(source)["cells"]]
    except (ValueError, KeyError, TypeError):
        return source


def log_text(log: str) -> str:
    """Return the last 40 lines of a kernel's log, which Kaggle stores as a JSON list of pieces."""
    with suppress(ValueError, KeyError, TypeError):
        log = "".join(piece["data"] for piece in json.loads(log))
    return "\n".join(log.splitlines()[-40:])
