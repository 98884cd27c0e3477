"""Give every HTTP request of this process a timeout, and retry those that are safe to repeat.

Kaggle's client sets no timeout, and repeats some requests that change something on Kaggle.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from omegaconf import DictConfig
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

# Requests that change something on Kaggle.
CHANGING = ("/CreateDataset", "/CreateDatasetVersion", "/SaveKernel", "/CreateCodeSubmission", "/CreateSubmission")
TRY_LATER = (429, 500, 502, 503, 504)


class LoggedRetry(Retry):
    """A Retry that prints why it waits, and takes a Retry-After that it cannot read for none."""

    def parse_retry_after(self, retry_after: str) -> float:
        try:
            return super().parse_retry_after(retry_after)
        except InvalidHeader:
            return 0

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> "LoggedRetry":
        retry = super().increment(method, url, response, error, _pool, _stacktrace)
        reason = f"answers {response.status}" if response else f"cannot be reached ({type(error).__name__})"
        seconds = retry.get_retry_after(response) if response else None
        print(f"  Kaggle {reason}; asking again" + (f" in {seconds:.0f} s" if seconds else ""), file=sys.stderr)
        return retry


@contextmanager
def timeouts_and_retries(settings: DictConfig) -> Iterator[None]:
    """Set timeout and retries of all requests in this block.

    Reading requests are retried after 429, 5xx and lost connections. Changing ones only when Kaggle did not act: after
    429, or when it was not reached. Both wait as long as Retry-After says.

    It replaces HTTPAdapter.send, the one place that all requests pass: the client creates several sessions per command,
    and one while it is imported.

    Args:
        settings: `submit:` in conf/params.yaml.
    """
    shared: dict[str, Any] = {
        "total": settings.retries,
        "backoff_factor": settings.backoff_s,
        "backoff_jitter": settings.backoff_s,
        "allowed_methods": None,
        "raise_on_status": False,
    }
    reading = LoggedRetry(**shared, status_forcelist=TRY_LATER)
    changing = LoggedRetry(**shared, status_forcelist=(429,), read=False, other=0)
    # The client itself resumes an interrupted upload.
    uploading = LoggedRetry(**shared, read=False, other=0, respect_retry_after_header=False)
    send = HTTPAdapter.send

    def send_with_retries(
        adapter: HTTPAdapter, request: PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any
    ) -> Response:
        is_change = (request.url or "").endswith(CHANGING)
        adapter.max_retries = uploading if request.method == "PUT" else changing if is_change else reading
        return send(adapter, request, stream=stream, timeout=timeout or settings.request_timeout_s, **options)

    HTTPAdapter.send = send_with_retries  # type: ignore[method-assign, assignment]  # the only hook for all sessions
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]  # restore it
