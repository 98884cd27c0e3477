"""What we ask of Kaggle, through its own client.

The client sets no timeout, repeats some requests that act twice, and reports many failures as success. So every request
gets a timeout here. What only asks is repeated after 429, 5xx and lost connections; what acts on Kaggle, only where
Kaggle says that it did not act (429, Retry-After) or was not reached. Refusals become one line with the remedy.
"""

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import requests
from omegaconf import DictConfig
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file
from plant_pathology.kaggle.download import has_credentials
from plant_pathology.kaggle.journal import AGAIN

ACTS = ("/CreateDataset", "/CreateDatasetVersion", "/SaveKernel", "/CreateCodeSubmission")
TRY_LATER = (429, 500, 502, 503, 504)
# Kaggle answers 403 instead of 404 where a private dataset or kernel of that name could be.
ABSENT = (403, 404)


class SaidRetry(Retry):
    """Tells that it waits, and why."""

    def increment(self, method=None, url=None, response=None, error=None, **rest):
        after = super().increment(method, url, response, error, **rest)
        reason = f"answers {response.status}" if response else f"cannot be reached ({type(error).__name__})"
        seconds = response.headers.get("Retry-After") if response else None
        print(f"  Kaggle {reason}; asking again" + (f" in {seconds} s" if seconds else ""), file=sys.stderr)
        return after


@contextmanager
def patience(settings: DictConfig) -> Iterator[None]:
    """Give every request of this process a timeout and retries.

    The client makes its sessions itself, several a command and one while it is imported: their adapter is the one
    place that all requests pass.
    """
    shared = {
        "total": settings.retries,
        "backoff_factor": settings.backoff_s,
        "backoff_jitter": settings.backoff_s,
        "allowed_methods": None,
        "raise_on_status": False,
    }
    asks = SaidRetry(**shared, status_forcelist=TRY_LATER)
    acts = SaidRetry(**shared, status_forcelist=(429,), read=False, other=0)
    # The client itself goes on with an upload where it broke off.
    uploads = SaidRetry(**shared, read=False, other=0, respect_retry_after_header=False)
    send = HTTPAdapter.send

    def patiently(adapter, request, stream=False, timeout=None, **options):
        kind = uploads if request.method == "PUT" else acts if request.url.endswith(ACTS) else asks
        adapter.max_retries = kind
        return send(adapter, request, stream=stream, timeout=timeout or settings.request_timeout_s, **options)

    HTTPAdapter.send = patiently
    try:
        yield
    finally:
        HTTPAdapter.send = send


class Uncertain(UserError):
    """Kaggle may have acted or not: the request went out, and no clear answer came back."""


class Kaggle:
    """Kaggle, as one user sees it. Every method raises a UserError that says what to do about a refusal."""

    def __init__(self):
        """Raises: UserError where there are no credentials, or Kaggle takes none of them."""
        if not has_credentials():
            raise UserError(
                "no Kaggle credentials: make an API token on Kaggle (your picture, Settings, API), and save it as"
                " ~/.kaggle/access_token or set KAGGLE_API_TOKEN"
            )
        # With these the client would print the token.
        for name in ("VERBOSE", "VERBOSE_OUTPUT"):
            os.environ.pop(name, None)
        self._secrets = [os.environ[name] for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY") if os.environ.get(name)]
        with self._asking("authenticate"), redirect_stdout(io.StringIO()):
            # Here, since the import itself asks Kaggle.
            from kaggle.api.kaggle_api_extended import KaggleApi

            self._api = KaggleApi()
            try:
                self._api.authenticate()
            except SystemExit:
                raise UserError(f"authenticate: {REMEDIES[401]}") from None
        values = self._api.config_values
        self._secrets += [values[name] for name in ("key", "token") if values.get(name)]
        self.user: str = values["username"]
        # It would send again what may have been done.
        self._api.with_retry = lambda call: call

    def dataset(self, ref: str) -> Any | None:
        """The client's ApiDataset; None where there is none."""
        fields = named("owner_slug", "dataset_slug", ref)
        return self._ask(
            f"look up the dataset {ref}", "datasets.dataset_api_client.get_dataset", absent=ABSENT, **fields
        )

    def dataset_status(self, ref: str) -> str:
        fields = named("owner_slug", "dataset_slug", ref)
        what = f"ask for the state of the dataset {ref}"
        return self._ask(what, "datasets.dataset_api_client.get_dataset_status", **fields).status.name

    def dataset_files(self, ref: str) -> set[str]:
        fields = named("owner_slug", "dataset_slug", ref)
        pages = self._pages(
            f"list the files of the dataset {ref}", "datasets.dataset_api_client.list_dataset_files", **fields
        )
        return {file.name for page in pages for file in page.dataset_files}

    def upload_dataset(self, folder: Path, files: set[str], note: str | None) -> None:
        """Create the dataset in `folder`, or with a `note` a version of it.

        Raises:
            UserError: a file did not arrive, or Kaggle says error in a good answer. Nothing was created then.
            Uncertain: it may have been created.
        """
        upload_files = self._api.upload_files

        def all_or_nothing(request, *arguments, **options):
            upload_files(request, *arguments, **options)
            if len(request.files) != len(files):
                raise UserError(f"{len(request.files)} of {len(files)} files of {folder} arrived at Kaggle: {AGAIN}")

        self._api.upload_files = all_or_nothing
        # The client would go on with an upload of other bytes that have the same size and time.
        with (
            self._asking("upload the dataset", acts=True),
            tempfile.TemporaryDirectory() as fresh,
            temporary_files_in(fresh),
            redirect_stdout(io.StringIO()),
        ):
            if note is None:
                answer = self._api.dataset_create_new(str(folder))
            else:
                answer = self._api.dataset_create_version(str(folder), note)
        if (answer.status or "").lower() != "ok":
            raise UserError(f"Kaggle does not take the dataset in {folder}: {answer.error or 'it does not say why'}")

    def kernel(self, ref: str) -> Any | None:
        """The client's ApiGetKernelResponse of the latest version; None where there is none."""
        fields = named("user_name", "kernel_slug", ref)
        return self._ask(f"look up the kernel {ref}", "kernels.kernels_api_client.get_kernel", absent=ABSENT, **fields)

    def push_kernel(self, folder: Path) -> Any:
        """The client's ApiSaveKernelResponse. Raises: Uncertain when it may have been pushed."""
        with self._asking("push the kernel", acts=True), redirect_stdout(io.StringIO()):
            return self._api.kernels_push(str(folder))

    def kernel_state(self, ref: str) -> tuple[str, str]:
        """State of the latest version, and why it failed."""
        fields = named("user_name", "kernel_slug", ref)
        what = f"ask for the state of the kernel {ref}"
        answer = self._ask(what, "kernels.kernels_api_client.get_kernel_session_status", **fields)
        return answer.status.name, answer.failure_message or ""

    def kernel_output(self, ref: str) -> tuple[dict[str, str], str]:
        """What the latest version wrote, {name: address}, and its log."""
        fields = named("user_name", "kernel_slug", ref)
        pages = self._pages(
            f"list the output of the kernel {ref}", "kernels.kernels_api_client.list_kernel_session_output", **fields
        )
        return {file.file_name: file.url for page in pages for file in page.files}, pages[0].log or ""

    def download(self, address: str, path: Path) -> None:
        """Raises: UserError on anything but the file; the client would save a 404 as its content."""
        with self._asking(f"download {path.name}"), requests.get(address, stream=True) as answer:
            answer.raise_for_status()
            with atomic_file(path) as work, work.open("wb") as file:
                for block in answer.iter_content(2**20):
                    file.write(block)

    def competition(self, name: str) -> Any:
        """The client's ApiCompetition."""
        return self._ask(
            f"look up the competition {name}",
            "competitions.competition_api_client.get_competition",
            competition_name=name,
        )

    def submission_limits(self, name: str) -> Any:
        """The client's ApiSubmissionLimits."""
        return self._ask(
            f"ask for the submissions left in {name}",
            "competitions.competition_api_client.get_submission_limits",
            competition_name=name,
        )

    def submissions(self, name: str) -> list[Any]:
        """The client's ApiSubmission of all that the team submitted, latest first."""
        pages = self._pages(
            f"list the submissions to {name}",
            "competitions.competition_api_client.list_submissions",
            competition_name=name,
        )
        return [submission for page in pages for submission in page.submissions]

    def submit(self, competition: str, kernel: str, version: int, file: str, message: str) -> Any:
        """The client's ApiCreateCodeSubmissionResponse. Raises: Uncertain when it may have been submitted."""
        with self._asking(f"submit to {competition}", acts=True):
            return self._api.competition_submit_code(file, message, competition, kernel, version, quiet=True)

    def _ask(self, what: str, method: str, absent: tuple[int, ...] = (), **fields) -> Any:
        """The answer to a question; None where the status is one of `absent`.

        Args:
            what: we ask for, in words.
            method: of the SDK's client, dotted, with the `fields` of its request.
        """
        with self._asking(what), self._api.build_kaggle_client() as client:
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

    def _pages(self, what: str, method: str, **fields) -> list[Any]:
        pages, token = [], ""
        while not pages or token:
            pages.append(self._ask(what, method, **fields, page_size=200, page_token=token))
            token = pages[-1].next_page_token
        return pages

    @contextmanager
    def _asking(self, what: str, acts: bool = False) -> Iterator[None]:
        """Turn the client's errors into ours: one line, without secrets."""
        try:
            yield
        except requests.HTTPError as error:
            status = status_of(error)
            kind = Uncertain if acts and status >= 500 else UserError
            remedy = REMEDIES.get(status, AGAIN if status >= 500 else "see what it says")
            said = self._without_secrets(message_of(error))
            raise kind(f"Kaggle does not {what} ({status}{said}): {remedy}") from None
        except requests.RequestException as error:
            kind = Uncertain if acts and not isinstance(error, requests.ConnectTimeout) else UserError
            reason = getattr(error.args[0] if error.args else error, "reason", error)
            raise kind(f"Kaggle cannot be reached to {what} ({type(reason).__name__}): {AGAIN}") from None
        except (ValueError, KeyError, TypeError) as error:
            kind = Uncertain if acts else UserError
            said = self._without_secrets(f"{type(error).__name__}: {error}")
            raise kind(f"Kaggle's answer to {what} is not understood ({said[:200]}): {AGAIN}") from None

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


REMEDIES = {
    401: "it refuses the token: make a new one (your picture, Settings, API)",
    403: "join the competition and accept its rules on its page, verify your phone number in Kaggle's settings, and"
    " set package.owner to the account that the token belongs to",
    404: "check the names: competition, package.owner, package.dataset, package.kernel",
    409: "the name is taken or a version of it is still in the making: wait and start again, or choose another"
    " package.dataset or package.kernel",
    429: "too many requests: wait some minutes and start again, it continues",
}


def named(owner: str, slug: str, ref: str) -> dict[str, str]:
    return dict(zip((owner, slug), ref.split("/"), strict=True))


def status_of(error: requests.HTTPError) -> int:
    """The status, or the `code` of an answer that says error with status 200."""
    if error.response.status_code >= 400:
        return error.response.status_code
    return int(error.response.json()["code"])


def message_of(error: requests.HTTPError) -> str:
    try:
        return f": {str(error.response.json()['message'])[:300]}"
    except (ValueError, KeyError, TypeError):
        return ""


@contextmanager
def temporary_files_in(folder: str) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before
