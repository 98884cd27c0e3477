"""Explain what an S3 server answered, or why it could not be asked: one line with the remedy, without secrets."""

import re
from typing import Any

UPDATE = "this server lacks something that the store needs: update it, or set store.uri to another store"
REGION = "the bucket is in another region: set AWS_DEFAULT_REGION"
CLOCK = "this machine's clock is wrong: set it, for example with `timedatectl set-ntp true`"
RENEW = "renew the credentials, and start again"
UNKNOWN_KEY = (
    "this server does not know the credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or"
    " AWS_PROFILE, and store.endpoint_url"
)
FULL = "the store is full: free space (`datastore rm`, `datastore gc`), or raise its quota"
LARGE = (
    "a file is larger than the server, or a proxy before it, accepts: raise that limit, or lower prepare.shard_mb,"
    " prepare and push again"
)
CHANGED = "a file changed while it was pushed, or on the way: push again; if it stays, a proxy changes it"
ADDRESS = "write the server's own address into store.endpoint_url"
REMEDIES = {
    **dict.fromkeys(("NotImplemented", "501", "MethodNotAllowed", "405", "UnsupportedOperation"), UPDATE),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"), REGION
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestInTheFuture"), CLOCK),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"), RENEW),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure"), UNKNOWN_KEY),
    **dict.fromkeys(("QuotaExceeded", "QuotaExceededException", "XMinioAdminBucketQuotaExceeded"), FULL),
    **dict.fromkeys(("XMinioStorageFull", "StorageFull", "InsufficientStorage", "507"), FULL),
    **dict.fromkeys(("EntityTooLarge", "MaxMessageLengthExceeded", "413"), LARGE),
    **dict.fromkeys(("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"), CHANGED),
    **dict.fromkeys(("MissingContentLength", "IncompleteBody", "411"), "a proxy changes the requests: connect without"),
    **dict.fromkeys(("301", "302", "303", "307", "308", "TemporaryRedirect"), ADDRESS),
    "NoSuchBucket": "make the bucket, or set store.uri to another",
    "InvalidBucketName": "write the bucket's name into store.uri as the server knows it",
    "SecondLevelDomainForbidden": "run `aws configure set s3.addressing_style virtual`",
    "InvalidObjectState": "the object was moved to an archive: restore it there, and start again",
    "407": "the proxy wants a password: set HTTPS_PROXY, or NO_PROXY to the server's name",
}
PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket on the bucket",
    "HeadObject": "s3:GetObject, and s3:ListBucket on the bucket",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject, and with store.sse=aws:kms also kms:GenerateDataKey",
    "DeleteObject": "s3:DeleteObject",
}


def explain_answer(operation: str, status: int, error: dict[str, Any]) -> str:
    """Explain an error that the server answered.

    Args:
        operation: as boto3 names it, such as PutObject.
        error: `Code` and, where the server sent them, `Message`, `Region` and others.
    """
    code = error.get("Code") or str(status)
    if remedy := REMEDIES.get(code) or REMEDIES.get(str(status)):
        # Amazon names the region that it expects.
        expected = error.get("Region") or next(iter(re.findall(r"expecting '([\w-]+)'", error.get("Message", ""))), "")
        remedy += f"={expected}" if remedy == REGION and expected else ""
    elif code.startswith("KMS.") or "ServerSideEncryption" in code:
        remedy = "check store.sse, and the bucket's key"
    elif code in ("AccessDenied", "AllAccessDisabled", "AccountProblem") or status in (401, 403):
        remedy = f"the credentials need the permission {PERMISSIONS.get(operation, operation)}; or a proxy refuses"
    elif status >= 500:
        # Without a code of S3, something else may have answered; botocore says 500 also for a web page with status 200.
        remedy = "try again later" + (
            "; if it stays, perhaps a proxy or a login page answers" if code.isdigit() else ""
        )
    else:
        remedy = f"{one_line(error.get('Message', ''))}; check store.uri, store.endpoint_url and the credentials"
    return f"S3 answers {code} to {operation}: {remedy}"


def explain_failure(error: Exception) -> str:
    """Explain why the server could not be asked, or its answer not be read."""
    # Imported here, so that a store in a folder does not wait for boto3.
    from botocore import exceptions as failures
    from botocore.parsers import ResponseParserError

    text = one_line(str(error))
    credentials = (
        failures.NoCredentialsError,
        failures.PartialCredentialsError,
        failures.CredentialRetrievalError,
        failures.ProfileNotFound,
    )
    if isinstance(error, failures.SSOError | failures.TokenRetrievalError):
        remedy = "run `aws sso login`"
    elif isinstance(error, credentials):
        remedy = "run `aws configure` or `aws sso login`, or set AWS_PROFILE"
    elif isinstance(error, failures.NoRegionError):
        remedy = "set AWS_DEFAULT_REGION"
    elif isinstance(error, ResponseParserError | failures.PaginationError):
        return (
            "the answer is not one of S3: perhaps a proxy's or a login's page; check store.endpoint_url and the network"
        )
    elif isinstance(error, failures.SSLError) and re.search("(?i)wrong.version|record layer|unknown protocol", text):
        remedy = "the server speaks no TLS: write http:// into store.endpoint_url"
    elif isinstance(error, failures.SSLError):
        remedy = (
            "set AWS_CA_BUNDLE to the file (PEM) of the certificate that signed the server's,"
            " and write the name that its certificate has into store.endpoint_url"
        )
    elif isinstance(error, failures.ProxyConnectionError):
        remedy = "check HTTPS_PROXY, or set NO_PROXY to the server's name"
    else:
        remedy = "check store.uri, store.endpoint_url and the network"
    return f"{text}: {remedy}"


def one_line(text: str) -> str:
    """Return text in one line, shortened, without the secrets that a URL may hold."""
    text = re.sub(r"//[^/@\s]*@", "//", " ".join(text.split()))
    text = re.sub(r"\?[^\s\"']*", "", text)
    return text if len(text) <= 300 else f"{text[:300]}…"
