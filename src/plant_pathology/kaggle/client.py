"""Send requests to Kaggle through its own client, and turn failures into one-line errors with a remedy.

The client reports many failures as success, and repeats requests that may have been carried out. Retries are set in
kaggle/retries.py instead.
"""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import requests

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.kaggle.credentials import NO_CREDENTIALS, has_credentials
from plant_pathology.kaggle.journal import AGAIN

# Kaggle answers 403 instead of 404 where a private dataset or kernel of that name could be.
ABSENT = (403, 404)


class OutcomeUnknown(UserError):
    """Kaggle may have carried out the request: it was sent, and no clear reply came back."""


class Kaggle:
    """Kaggle, as one user sees it. Every method raises a UserError with a remedy when Kaggle refuses."""

    def __init__(self) -> None:
        """Authenticate.

        Raises:
            UserError: there are no credentials, or Kaggle refuses them.
        """
        if not has_credentials():
            raise UserError(NO_CREDENTIALS)
        # With these variables the client would print the token.
        for name in ("VERBOSE", "VERBOSE_OUTPUT"):
            os.environ.pop(name, None)
        self._secrets = [os.environ[name] for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY") if os.environ.get(name)]
        with self._errors_explained("authenticate"), redirect_stdout(io.StringIO()):
            # Imported here, since the import itself sends a request.
            from kaggle.api.kaggle_api_extended import KaggleApi

            self._api = KaggleApi()
            try:
                self._api.authenticate()
            except SystemExit:
                raise UserError(f"authenticate: {REMEDIES[401]}") from None
        values = self._api.config_values
        self._secrets += [values[name] for name in ("key", "token") if values.get(name)]
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

    def upload_dataset(self, folder: Path, files: set[str], note: str | None) -> None:
        """Create the dataset in `folder`, or a new version of it.

        Args:
            files: names of the files that must arrive.
            note: of the new version; None: create the dataset.

        Raises:
            UserError: a file did not arrive, or Kaggle refused; nothing was created.
            OutcomeUnknown: it may have been created.
        """
        upload_files = self._api.upload_files

        def upload_all_or_fail(request: Any, *arguments: Any, **options: Any) -> None:
            upload_files(request, *arguments, **options)
            if len(request.files) != len(files):
                raise UserError(f"{len(request.files)} of {len(files)} files of {folder} arrived at Kaggle: {AGAIN}")

        self._api.upload_files = upload_all_or_fail
        # A fresh temporary folder: the client would resume an upload of other bytes with the same size and time.
        with (
            self._errors_explained("upload the dataset", changes=True),
            tempfile.TemporaryDirectory() as fresh,
            temporary_files_in(fresh),
            redirect_stdout(io.StringIO()),
        ):
            if note is None:
                answer = self._api.dataset_create_new(str(folder))
            else:
                answer = self._api.dataset_create_version(str(folder), note)
        if (answer.status or "").lower() != "ok":
            raise UserError(f"Kaggle refused the dataset in {folder}: {answer.error or 'it gave no reason'}; {AGAIN}")

    def kernel(self, ref: str) -> Any | None:
        """Return the client's ApiGetKernelResponse of the latest version; None where it does not exist."""
        fields = ref_fields("user_name", "kernel_slug", ref)
        return self._ask(f"look up the kernel {ref}", "kernels.kernels_api_client.get_kernel", fields, absent=ABSENT)

    def push_kernel(self, folder: Path) -> Any:
        """Push the kernel and return the client's ApiSaveKernelResponse.

        Raises:
            OutcomeUnknown: it may have been pushed.
        """
        with self._errors_explained("push the kernel", changes=True), redirect_stdout(io.StringIO()):
            return self._api.kernels_push(str(folder))

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
        with self._errors_explained(f"download {path.name}"), requests.get(url, stream=True) as answer:
            answer.raise_for_status()
            with atomic_file(path) as work, work.open("wb") as file:
                for block in answer.iter_content(2**20):
                    file.write(block)

    def competition(self, name: str) -> Any:
        """Return the client's ApiCompetition."""
        return self._ask(
            f"look up the competition {name}",
            "competitions.competition_api_client.get_competition",
            {"competition_name": name},
        )

    def submission_limits(self, name: str) -> Any:
        """Return the client's ApiSubmissionLimits."""
        return self._ask(
            f"ask for the submissions left in {name}",
            "competitions.competition_api_client.get_submission_limits",
            {"competition_name": name},
        )

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
        with self._errors_explained(f"submit to {competition}", changes=True):
            return self._api.competition_submit_code(file, message, competition, kernel, version, quiet=True)

    def submit_file(self, competition: str, path: Path, message: str) -> Any:
        """Upload a file, submit it, and return the client's ApiCreateSubmissionResponse.

        Raises:
            UserError: the file did not arrive, or Kaggle refused; nothing was submitted.
            OutcomeUnknown: it may have been submitted.
        """
        with self._errors_explained(f"submit to {competition}", changes=True), redirect_stdout(io.StringIO()):
            answer = self._api.competition_submit(str(path), message, competition, quiet=True)
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
        with self._errors_explained(what), self._api.build_kaggle_client() as client:
            ask = attrgetter(method)(client)
            request = get_type_hints(ask)["request"]()
            for name, value in fields.items():
                setattr(request, name, value)
            try:
                return ask(request)
            except requests.HTTPError as error:
                if status_of(error) in absent:
                    return None
                raise

    def _pages(self, what: str, method: str, fields: dict[str, Any]) -> list[Any]:
        """As `_ask`, but return the replies of all pages."""
        pages: list[Any] = []
        token = ""
        while not pages or token:
            pages.append(self._ask(what, method, fields | {"page_size": 200, "page_token": token}))
            token = pages[-1].next_page_token
        return pages

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
            status = status_of(error)
            kind = OutcomeUnknown if changes and status >= 500 else UserError
            remedy = REMEDIES.get(status, AGAIN if status >= 500 else "see Kaggle's message")
            message = self._without_secrets(message_of(error))
            raise kind(f"Kaggle does not {what} ({status}{message}): {remedy}") from None
        except requests.RequestException as error:
            kind = OutcomeUnknown if changes and not isinstance(error, requests.ConnectTimeout) else UserError
            reason = getattr(error.args[0] if error.args else error, "reason", error)
            raise kind(f"Kaggle cannot be reached to {what} ({type(reason).__name__}): {AGAIN}") from None
        except (ValueError, KeyError, TypeError) as error:
            kind = OutcomeUnknown if changes else UserError
            message = self._without_secrets(f"{type(error).__name__}: {error}")[:200]
            raise kind(f"Kaggle's answer to {what} is not understood ({message}): {AGAIN}") from None

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


REMEDIES = {
    401: "it refuses the token: create a new one (your picture, Settings, API)",
    403: "join the competition and accept its rules on its page, verify your phone number in Kaggle's settings, and"
    " set package.owner to the account that the token belongs to",
    404: "check the names: competition, package.owner, package.dataset, package.kernel",
    409: "the name is taken, or Kaggle still processes a version of it: wait and start again, or choose another"
    " package.dataset or package.kernel",
    429: f"too many requests: wait some minutes, then {AGAIN}",
}


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
    """Return ": " and the message in the body; "" where there is none."""
    try:
        return f": {str(response_of(error).json()['message'])[:300]}"
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
