"""Upload the dataset, push the kernel, wait until it has run, and download its output. Each step can be repeated.

If we were interrupted after Kaggle acted and before the journal recorded it, we find out from Kaggle: each dataset
version has the hash of its content in its note, and the source of the latest kernel version is compared with ours.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.inference.test_set import Form
from plant_pathology.kaggle.client import Kaggle, OutcomeUnknown
from plant_pathology.kaggle.journal import AGAIN, Journal
from plant_pathology.kaggle.progress import Absent, TimedOut, show, wait_until_done, wait_until_shown
from plant_pathology.kaggle.remedies import remedy_for
from plant_pathology.kaggle.sources import is_same, is_same_image, slug_of
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
        expected = self.kaggle.uploaded_names(self.package.data_files)
        found = self.after_interruption(lambda: self.kaggle.dataset(ref), version_of, "dataset_before")
        lacking = self.journal.get("dataset_lacks")
        if self.has_our_bytes(found) and not (lacking and not self.journal.get("dataset_again")):
            reached = version_of(found)
            show("dataset", f"{ref}: version {reached} has these bytes already")
        else:
            reached = version_of(found) + 1
            # In case Kaggle has no note for the version: after an interruption, this one is ours.
            self.journal.note(dataset_before=version_of(found), **({"dataset_again": True} if lacking else {}))
            show("dataset", f"{ref}: {'a new version' if found else 'created'}, {len(expected)} files")
            try:
                self.kaggle.upload_dataset(self.package.folder / "dataset", note=self.dataset_note if found else None)
            except OutcomeUnknown:
                raise
            except UserError:
                self.journal.forget("dataset_before", "dataset_again")
                raise

        def look() -> tuple[str, bool]:
            state, now = self.kaggle.dataset_status(ref), self.kaggle.dataset(ref)
            if state in ("FAILED", "DELETED"):
                self.journal.forget("dataset_before")
                raise UserError(f"Kaggle could not process the dataset {ref} ({state}): {AGAIN} with a new version")
            if now is None:
                raise Absent(f"the dataset {ref}: 403 or 404")
            return state.lower(), state == "READY" and version_of(now) >= reached

        wait_until_done("dataset", look, self.settings.dataset_timeout_s, self.settings)
        self.wait_for_files(ref, expected)
        self.journal.forget("dataset_lacks", "dataset_again")
        self.journal.note(dataset=self.dataset_record(reached))

    def wait_for_files(self, ref: str, expected: set[str]) -> None:
        """Wait until Kaggle lists all files of the dataset, for settle_s seconds.

        Raises:
            UserError: it lacks some. The next start uploads them once more, and no third time.
        """
        missing = expected

        def look() -> tuple[str, bool]:
            nonlocal missing
            missing = expected - self.kaggle.dataset_files(ref)
            return f"{len(missing)} of {len(expected)} files not listed yet", not missing

        try:
            wait_until_done("dataset", look, self.settings.settle_s, self.settings)
        except TimedOut:
            names = ", ".join(sorted(missing))
            if self.journal.get("dataset_lacks"):
                raise UserError(
                    f"the dataset {ref} on Kaggle lacks {names}, though it was uploaded twice: see what became of it on"
                    f" https://www.kaggle.com/datasets/{ref}, then delete it there and start again"
                ) from None
            self.journal.note(dataset_lacks=sorted(missing))
            raise UserError(f"the dataset {ref} on Kaggle lacks {names}: {AGAIN}, and uploads it once more") from None

    def after_interruption(self, ask: Callable[[], Any], number: Callable[[Any], int], key: str) -> Any:
        """Return what Kaggle shows, if we were interrupted while we made a version only when it shows that one.

        Kaggle may show it late, and it would be made twice. After settle_s seconds it counts as not made.

        Args:
            ask: returns what Kaggle shows.
            number: returns the version in it.
            key: of the journal's note with the version before.
        """
        found, before = ask(), self.journal.get(key)
        deadline = time.monotonic() + self.settings.settle_s
        while before is not None and number(found) <= before and time.monotonic() < deadline:
            time.sleep(self.settings.poll_s)
            found = ask()
        return found

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
        found = self.after_interruption(lambda: self.kaggle.kernel(ref), kernel_version_of, "kernel_before")
        latest = kernel_version_of(found)
        before = self.journal.get("kernel_before")
        if found and before is not None and latest == before + 1 and self.is_our_source(found.blob.source):
            version = latest
        else:
            self.check_quota()
            self.journal.note(kernel_before=latest)
            try:
                version = self.pushed_version(self.kaggle.push_kernel(folder), ref)
            except OutcomeUnknown:
                raise
            except UserError:
                self.journal.forget("kernel_before")
                raise
        show("kernel", f"{ref}: pushed as version {version}")

        def look() -> tuple[str, bool]:
            # 0: Kaggle does not report the number.
            listed = self.latest_kernel().metadata.current_version_number in (0, version)
            return "waiting for Kaggle to list it", listed

        try:
            wait_until_done("kernel", look, self.settings.settle_s, self.settings)
            self.check_arrived(wait_until_shown("kernel", self.latest_kernel, self.settings).metadata)
        except Differs:
            self.journal.forget("kernel_before")
            raise
        self.journal.note(kernel=version)

    def check_quota(self) -> None:
        """Print this week's hours of GPUs where the kernel needs one.

        Raises:
            UserError: none are left.
        """
        quota = self.kaggle.gpu_quota() if self.package.metadata["enable_gpu"] else None
        if quota:
            text, used_up = quota
            show("quota", text)
            if used_up:
                raise UserError(f"no GPU hours are left ({text}): {self.remedy('quota')}")

    def remedy(self, message: str) -> str:
        """Return what to do about a refusal within a reply of Kaggle."""
        return remedy_for(None, message, next(iter(self.package.metadata["competition_sources"]), None))

    def latest_kernel(self) -> Any:
        """Return the kernel's latest version on Kaggle.

        Raises:
            Absent: Kaggle does not show it.
        """
        found = self.kaggle.kernel(self.package.kernel)
        if found is None:
            raise Absent(f"the kernel {self.package.kernel}: 403 or 404")
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
        slug = slug_of(answer.ref or answer.url or ref)
        if answer.error:
            problem = f"{answer.error}: {self.remedy(answer.error)}"
            if "quota" in answer.error.lower() and (quota := self.kaggle.gpu_quota()):
                problem += f" ({quota[0]})"
        elif any(dropped.values()):
            problem = "it did not attach " + "; ".join(f"{kind} {', '.join(v)}" for kind, v in dropped.items() if v)
        elif slug != slug_of(ref):
            problem = f"it is called {slug} there, not {ref}: set package.kernel to that, or delete that kernel"
        elif not answer.version_number:
            problem = "it does not say which version this is"
        if problem:
            raise UserError(f"Kaggle did not take the kernel as it is: {problem}")
        return answer.version_number

    def is_our_source(self, theirs: str | None) -> bool:
        """Whether a source on Kaggle has the same cells as ours; Kaggle may format a notebook's JSON differently."""
        path = self.package.folder / "submission" / self.package.metadata["code_file"]
        return cells(theirs or "") == cells(path.read_text(encoding="utf-8"))

    def check_arrived(self, theirs: Any) -> None:
        """Check that the kernel's metadata on Kaggle is what was pushed.

        Machine and image are compared where Kaggle tells them: older servers do not.

        Raises:
            Differs: a setting, the machine, the image or a source does.
        """
        ours = self.package.metadata
        different = [
            f"{key}={getattr(theirs, key)!r}, not {ours[key]!r}"
            for key in ("is_private", "enable_gpu", "enable_tpu", "enable_internet")
            if getattr(theirs, key) != ours[key]
        ]
        different += [
            f"{key}={told}, not {ours[key]}"
            for key, is_equal in (("machine_shape", is_same), ("docker_image", is_same_image))
            if ours.get(key) and (told := getattr(theirs, key)) and not is_equal(told, ours[key])
        ]
        for kind in ("dataset", "competition", "kernel", "model"):
            there = getattr(theirs, f"{kind}_data_sources") or []
            lost = [ours for ours in ours[f"{kind}_sources"] if not any(is_same(each, ours) for each in there)]
            if lost:
                different.append(f"without the {kind} {', '.join(lost)}")
        if different:
            raise Differs(
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
                where = self.show_log()
                self.journal.forget("kernel", "kernel_before")
                because = f": {reason}" if reason else ""
                also = f"; {self.remedy(reason)}" if self.remedy(reason) != self.remedy("") else ""
                raise UserError(
                    f"the kernel {ref} failed on Kaggle ({state.lower()}{because}){also}: see {where}; start again, it"
                    " is pushed once more"
                )
            return state.lower(), state == "COMPLETE"

        wait_until_done("kernel", look, self.settings.kernel_timeout_s, self.settings)
        latest = kernel_version_of(wait_until_shown("kernel", self.latest_kernel, self.settings))
        if latest not in (0, version):
            self.journal.forget("kernel", "kernel_before")
            raise UserError(
                f"version {latest} of {ref} was pushed while version {version} ran, and Kaggle reports only the"
                " latest: start again, ours is pushed once more"
            )

    def show_log(self) -> str:
        """Print the end of the kernel's log on stderr, and return where it is; Kaggle may refuse to give it."""
        page = f"its log on https://www.kaggle.com/code/{self.package.kernel}"
        try:
            log = log_text(self.kaggle.kernel_output(self.package.kernel)[1])
        except UserError as error:
            print(f"  no log: {error}", file=sys.stderr)
            return page
        print(log, file=sys.stderr)
        return "its log above" if log.strip() else page

    def download_output(self, form: Form, path: Path) -> None:
        """Download the kernel's submission.csv to `path` and check it.

        Args:
            form: the competition's.

        Raises:
            UserError: the kernel wrote none, or Kaggle would not score it.
        """
        if self.journal.get("output"):
            return
        kernel = self.package.kernel
        files: dict[str, str] = {}

        def look() -> tuple[str, bool]:
            nonlocal files
            files, _ = self.kaggle.kernel_output(kernel)
            if OUTPUT in files:
                self.kaggle.download(files[OUTPUT], path)
            return f"{OUTPUT} not listed yet", OUTPUT in files

        try:
            wait_until_done("output", look, self.settings.settle_s, self.settings)
        except TimedOut:
            raise UserError(
                f"the kernel {kernel} wrote no {OUTPUT} on Kaggle, only {sorted(files)}: see its log on"
                f" https://www.kaggle.com/code/{kernel}"
            ) from None
        check = check_submission(path, form, self.package.bundle)
        if not check.passed:
            raise UserError(f"{path}, which the kernel wrote on Kaggle, would not be scored: {check.detail}")
        show("output", f"{path}: {check.detail}")
        self.journal.note(output=str(path))


class Differs(UserError):
    """The kernel on Kaggle is not what was pushed."""


def kernel_version_of(found: Any | None) -> int:
    """Return the number of a kernel's latest version; 0 where there is none, or Kaggle does not report it."""
    return version_of(found and found.metadata)


def version_of(thing: Any | None) -> int:
    """Return the number of the latest version; 0 where there is none."""
    return thing.current_version_number if thing else 0


def cells(source: str) -> Any:
    """Return the sources of a notebook's cells, independent of JSON formatting; any other source as it is."""
    try:
        return [lines("".join(cell["source"])) for cell in json.loads(source)["cells"]]
    except (ValueError, KeyError, TypeError):
        return lines(source)


def lines(source: str) -> list[str]:
    """Return the lines, whatever ends them, without blanks at the end."""
    return source.rstrip().splitlines()


def log_text(log: str, last: int | None = 40) -> str:
    """Return the last lines of a kernel's log, which Kaggle stores as a JSON list of pieces.

    Args:
        last: number of lines; None: all.
    """
    with suppress(ValueError, KeyError, TypeError):
        log = "".join(piece["data"] for piece in json.loads(log))
    lines = log.splitlines()
    return "\n".join(lines[-last:] if last else lines)
