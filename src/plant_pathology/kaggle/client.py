"""Send requests to Kaggle through its own client, and turn failures into one-line errors with a remedy.

The client reports many failures as success, and repeats requests that may have been carried out. Retries are set in
kaggle/retries.py instead.
"""

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import requests

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.core.secrets import without_secrets
from plant_pathology.kaggle.credentials import LOG_IN, Credentials, read_credentials, renewed
from plant_pathology.kaggle.journal import AGAIN
from plant_pathology.kaggle.progress import Absent
from plant_pathology.kaggle.remedies import remedy_for, says_why

# Kaggle answers 403 instead of 404 where a private dataset or kernel of that name could be.
ABSENT = (403, 404)
# What a server answers that does not know a request yet.
UNKNOWN_REQUEST = (404, 405, 501)
PAGES = 1000  # at most, of a list


class OutcomeUnknown(UserError):
    """Kaggle may have carried out the request: it was sent, and no clear reply came back."""


class Kaggle:
    """Kaggle, as one user sees it. Every method raises a UserError with a remedy when Kaggle refuses."""

    def __init__(self, competition: str) -> None:
        """Authenticate.

        Args:
            competition: whose pages error messages name.

        Raises:
            UserError: there are no credentials, they cannot be read, or Kaggle refuses them.
        """
        self._competition = competition
        # With these variables the client would print the token.
        for name in ("VERBOSE", "VERBOSE_OUTPUT"):
            os.environ.pop(name, None)
        self._credentials = Credentials("use", "")
        with self._errors_explained("authenticate"), redirect_stdout(io.StringIO()):
            self._credentials = read_credentials()
            self._credentials.give_to_client()
            # Imported here, since the import itself sends a request.
            from kaggle.api.kaggle_api_extended import KaggleApi

            allow_unknown_names()
            self._api = KaggleApi()
            try:
                self._api.authenticate()
            except SystemExit:
                raise UserError(f"Kaggle does not authenticate: {self._remedy(401, '')}") from None
        values = self._api.config_values
        # The client goes on with kaggle.json where a token is refused: perhaps another account's.
        if self._credentials.is_token and values.get("token") != self._credentials.secret:
            raise UserError(f"Kaggle does not authenticate: {self._remedy(401, '')}")
        self.user: str = values["username"]
        # The client's own retries would repeat requests that may have been carried out.
        self._api.with_retry = lambda call: call

    def dataset(self, ref: str) -> Any | None:
        """Return the client's ApiDataset; None where it does not exist."""
        fields = ref_fields("owner_slug", "dataset_slug", ref)
        return self._ask(f"look up the dataset {ref}", "datasets.dataset_api_client.get_dataset", fields, absent=ABSENT)

    def dataset_status(self, ref: str) -> str:
        fields = ref_fields("owner_slug", "dataset_slug", ref)
        what = f"ask for the state of the dataset {ref}"
        return self._ask(what, "datasets.dataset_api_client.get_dataset_status", fields).status.name

    def dataset_files(self, ref: str) -> set[str]:
        fields = ref_fields("owner_slug", "dataset_slug", ref)
        pages = self._pages(
            f"list the files of the dataset {ref}", "datasets.dataset_api_client.list_dataset_files", fields
        )
        return {file.name for page in pages for file in page.dataset_files}

    def uploaded_names(self, names: set[str]) -> set[str]:
        """Return which of a folder's files the client uploads: Kaggle lists neither metadata nor a cover image."""
        api = self._api
        metadata = {api.DATASET_METADATA_FILE, api.OLD_DATASET_METADATA_FILE, api.KERNEL_METADATA_FILE}
        of_models = {api.MODEL_METADATA_FILE, api.MODEL_INSTANCE_METADATA_FILE}
        return names - metadata - of_models - {*api.DATASET_COVER_IMAGE_FILES}

    def upload_dataset(self, folder: Path, note: str | None) -> None:
        """Create the dataset in `folder`, or a new version of it.

        Args:
            note: of the new version; None: create the dataset.

        Raises:
            UserError: a file did not arrive, or Kaggle refused; nothing was created.
            OutcomeUnknown: it may have been created.
        """
        upload_files = self._api.upload_files

        def upload_all_or_fail(*arguments: Any, **options: Any) -> None:
            try:
                upload_files(*arguments, **options)
            except ValueError as error:  # of the client, which names the file
                raise UserError(f"not all files of {folder} arrived at Kaggle ({error}): {AGAIN}") from None

        def upload() -> Any:
            hidden = [".*"]  # of a desktop, such as .DS_Store
            if note is None:
                return self._api.dataset_create_new(str(folder), ignore_patterns=hidden)
            return self._api.dataset_create_version(str(folder), note, ignore_patterns=hidden)

        self._api.upload_files = upload_all_or_fail
        try:
            # A fresh temporary folder: the client would resume an upload of other bytes with the same size and time.
            with tempfile.TemporaryDirectory() as fresh, temporary_files_in(fresh), redirect_stdout(io.StringIO()):
                answer = self._call("upload the dataset", upload, changes=True)
        finally:
            self._api.upload_files = upload_files
        if not (answer.status or answer.error):
            raise OutcomeUnknown(f"Kaggle does not say whether it took the dataset in {folder}: {AGAIN}")
        if (answer.status or "").lower() != "ok":
            reason = answer.error or f"{answer.status}, without a reason"
            raise UserError(f"Kaggle refused the dataset in {folder}: {reason}: {self._remedy(None, reason)}")

    def kernel(self, ref: str) -> Any | None:
        """Return the client's ApiGetKernelResponse of the latest version; None where it does not exist."""
        fields = ref_fields("user_name", "kernel_slug", ref)
        what = f"look up the kernel {ref}"
        found = self._ask(what, "kernels.kernels_api_client.get_kernel", fields, absent=ABSENT)
        if found is not None and not (found.metadata and found.blob):
            raise UserError(f"Kaggle's answer to {what} has no metadata or no source: {AGAIN}")
        return found

    def push_kernel(self, folder: Path) -> Any:
        """Push the kernel and return the client's ApiSaveKernelResponse.

        Raises:
            OutcomeUnknown: it may have been pushed.
        """
        with redirect_stdout(io.StringIO()):
            return self._call("push the kernel", lambda: self._api.kernels_push(str(folder)), changes=True)

    def kernel_state(self, ref: str) -> tuple[str, str]:
        """Return the state of the latest version, and the reason if it failed."""
        fields = ref_fields("user_name", "kernel_slug", ref)
        what = f"ask for the state of the kernel {ref}"
        answer = self._ask(what, "kernels.kernels_api_client.get_kernel_session_status", fields)
        return answer.status.name, answer.failure_message or ""

    def kernel_output(self, ref: str) -> tuple[dict[str, str], str]:
        """Return the output files of the latest version, {name: URL}, and its log."""
        fields = ref_fields("user_name", "kernel_slug", ref)
        pages = self._pages(
            f"list the output of the kernel {ref}", "kernels.kernels_api_client.list_kernel_session_output", fields
        )
        return {file.file_name: file.url for page in pages for file in page.files}, pages[0].log or ""

    def download(self, url: str, path: Path) -> None:
        """Download a file; the client would save the page of a 404 as its content.

        Raises:
            UserError: Kaggle answered with an error.
        """

        def fetch() -> None:
            with requests.get(url, stream=True) as answer:
                answer.raise_for_status()
                with atomic_file(path) as work, work.open("wb") as file:
                    for block in answer.iter_content(2**20):
                        file.write(block)

        self._call(f"download {path.name}", fetch)

    def download_form(self, competition: str, file: str, folder: Path) -> None:
        """Download one of the competition's files into `folder`."""
        what = f"download {file}"
        with redirect_stdout(io.StringIO()):
            self._call(
                what,
                lambda: self._api.competition_download_file(
                    competition, file, path=str(folder), force=True, quiet=True, unzip=True
                ),
            )

    def competition(self, name: str) -> Any:
        """Return the client's ApiCompetition."""
        return self._ask(
            f"look up the competition {name}",
            "competitions.competition_api_client.get_competition",
            {"competition_name": name},
        )

    def submission_limits(self, name: str) -> Any | None:
        """Return the client's ApiSubmissionLimits; None from a server that does not know the request."""
        return self._ask(
            f"ask for the submissions left in {name}",
            "competitions.competition_api_client.get_submission_limits",
            {"competition_name": name},
            absent=UNKNOWN_REQUEST,
        )

    def gpu_quota(self) -> tuple[str, bool] | None:
        """Return this week's hours of GPUs as a text, and whether they are used up; None where Kaggle does not tell."""
        quota = self.gpu_hours()
        return (str(quota), quota.left <= 0) if quota else None

    def gpu_hours(self) -> "GpuHours | None":
        """Return this week's hours of GPUs; None where Kaggle does not tell."""
        try:
            answer = self._call("ask for the quota of GPU hours", self._api.quota_view)
        except UserError:
            return None
        quota = answer.gpu_quota
        if quota is None or not quota.total_time_allowed:
            return None
        times = (quota.time_used, quota.total_time_allowed)
        used, allowed = ((time.total_seconds() if time else 0) / 3600 for time in times)
        until = answer.quota_refresh_time
        renewed_at = f", renewed {until.replace(tzinfo=UTC):%Y-%m-%d %H:%M} UTC" if until else ""
        return GpuHours(used, allowed, renewed_at)

    def running_kernels(self) -> list[str]:
        """Return the user's kernels that run or wait for a machine, among the ten that ran last."""
        listed = self._call(
            "list your kernels", lambda: self._api.kernels_list(mine=True, page_size=10, sort_by="dateRun")
        )
        refs = [kernel.ref for kernel in listed or [] if kernel]
        return [ref for ref in refs if self.kernel_state(ref)[0] in ("QUEUED", "RUNNING", "CANCEL_REQUESTED")]

    def submissions(self, name: str) -> list[Any]:
        """Return the client's ApiSubmission for each submission of the team, latest first."""
        pages = self._pages(
            f"list the submissions to {name}",
            "competitions.competition_api_client.list_submissions",
            {"competition_name": name},
        )
        return [submission for page in pages for submission in page.submissions]

    def submit_kernel(self, competition: str, kernel: str, version: int, file: str, message: str) -> Any:
        """Submit a kernel's output file and return the client's ApiCreateCodeSubmissionResponse.

        Raises:
            OutcomeUnknown: it may have been submitted.
        """
        return self._call(
            f"submit to {competition}",
            lambda: self._api.competition_submit_code(file, message, competition, kernel, version, quiet=True),
            changes=True,
        )

    def submit_file(self, competition: str, path: Path, message: str) -> Any:
        """Upload a file, submit it, and return the client's ApiCreateSubmissionResponse.

        Raises:
            UserError: the file did not arrive, or Kaggle refused; nothing was submitted.
            OutcomeUnknown: it may have been submitted.
        """
        with redirect_stdout(io.StringIO()):
            answer = self._call(
                f"submit to {competition}",
                lambda: self._api.competition_submit(str(path), message, competition, quiet=True),
                changes=True,
            )
        if answer.message == self._api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
            raise UserError(f"{path} did not arrive at Kaggle: {AGAIN}")
        return answer

    def _ask(self, what: str, method: str, fields: dict[str, Any], absent: tuple[int, ...] = ()) -> Any:
        """Send a request that changes nothing, and return the reply; None where its status is one of `absent`.

        Args:
            what: the purpose, for error messages: "look up the dataset x".
            method: of the SDK's client, dotted.
            fields: of the method's request.
        """

        def ask() -> Any:
            with self._api.build_kaggle_client() as client:
                send = attrgetter(method)(client)
                request = get_type_hints(send)["request"]()
                for name, value in fields.items():
                    setattr(request, name, value)
                try:
                    return send(request)
                except requests.HTTPError as error:
                    if status_of(error) in absent:
                        return None
                    raise

        return self._call(what, ask)

    def _pages(self, what: str, method: str, fields: dict[str, Any]) -> list[Any]:
        """As `_ask`, but return the replies of all pages."""
        pages: list[Any] = []
        token, seen = "", set[str]()
        while not pages or token:
            pages.append(self._ask(what, method, fields | {"page_size": 200, "page_token": token}))
            token = pages[-1].next_page_token
            if token in seen or len(pages) > PAGES:
                raise UserError(f"Kaggle does not {what}: its list does not end (page {token} comes again): {AGAIN}")
            seen.add(token)
        return pages

    def _call(self, what: str, request: Callable[[], Any], changes: bool = False) -> Any:
        """Send a request; once more if the token of a login has run out, which Kaggle refuses before it acts."""
        with self._errors_explained(what, changes):
            try:
                return request()
            except requests.HTTPError as error:
                if status_of(error) != 401 or not self._credentials.login:
                    raise
            self._credentials = renewed(self._credentials)
            self._api.config_values["token"] = self._credentials.secret
            return request()

    @contextmanager
    def _errors_explained(self, what: str, changes: bool = False) -> Iterator[None]:
        """Turn the client's exceptions into UserErrors of one line, without secrets.

        Args:
            what: the purpose of the request, for error messages.
            changes: whether the request changes something on Kaggle.
        """
        try:
            yield
        except requests.HTTPError as error:
            status, message = status_of(error), message_of(error)
            is_absent = status in ABSENT and not says_why(message)
            kind = Absent if is_absent else OutcomeUnknown if changes and status >= 500 else UserError
            text = without_secrets(f"{status}: {message}" if message else str(status))
            raise kind(f"Kaggle does not {what} ({text}): {self._remedy(status, message)}") from None
        except requests.exceptions.InvalidHeader:
            raise UserError(f"Kaggle cannot be asked to {what}: a header is not valid: {AGAIN}") from None
        except requests.RequestException as error:
            if "failed: 407" in str(error):  # http.client's words about a proxy
                raise UserError(
                    f"the proxy does not let through the request to {what} (407): {self._remedy(407, '')}"
                ) from None
            kind = OutcomeUnknown if changes and not isinstance(error, requests.ConnectTimeout) else UserError
            reason = getattr(error.args[0] if error.args else error, "reason", error)
            raise kind(f"Kaggle cannot be reached to {what} ({type(reason).__name__}): {AGAIN}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            kind = OutcomeUnknown if changes else UserError
            message = without_secrets(f"{type(error).__name__}: {error}")[:200]
            raise kind(f"Kaggle's answer to {what} is not understood ({message}): {AGAIN}") from None

    def _remedy(self, status: int | None, message: str) -> str:
        if status == 401 and self._credentials.login:
            return f"it refuses the login in {self._credentials.source}: {LOG_IN}"
        return remedy_for(status, message, self._competition, self._credentials.source)


@dataclass(frozen=True)
class GpuHours:
    """This week's hours of GPUs.

    Args:
        renewed: when they begin anew, as the end of a text; "" where Kaggle does not tell.
    """

    used: float
    allowed: float
    renewed: str

    @property
    def left(self) -> float:
        return max(0.0, self.allowed - self.used)

    def __str__(self) -> str:
        return f"{self.used:.1f} of {self.allowed:.1f} GPU hours used{self.renewed}"


@dataclass(frozen=True)
class UnknownName:
    """A state that is newer than the client, in the place of a member of its enum."""

    name: str


def allow_unknown_names() -> None:
    """Let the client read states that are newer than it is; else one of them makes the whole answer unreadable."""
    from kagglesdk.kaggle_object import EnumSerializer

    known = EnumSerializer._from_str

    def read(enum: Any, value: Any) -> Any:
        try:
            return known(enum, value)
        except KeyError:
            return UnknownName(str(value).upper())

    EnumSerializer._from_str = staticmethod(read)  # the one place where all enums are read


def ref_fields(owner: str, slug: str, ref: str) -> dict[str, str]:
    """Split owner/slug into the two fields of a request."""
    return dict(zip((owner, slug), ref.split("/"), strict=True))


def response_of(error: requests.HTTPError) -> requests.Response:
    if error.response is None:
        raise ValueError(f"an HTTP error without a response: {error}")
    return error.response


def status_of(error: requests.HTTPError) -> int:
    """Return the HTTP status, or the `code` in the body where Kaggle reports an error with status 200."""
    response = response_of(error)
    return response.status_code if response.status_code >= 400 else int(response.json()["code"])


def message_of(error: requests.HTTPError) -> str:
    """Return the message in the body, on one line; "" where there is none."""
    try:
        return " ".join(str(response_of(error).json()["message"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return ""


@contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    """Make tempfile use `folder` in this block."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before
