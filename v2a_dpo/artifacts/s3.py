"""The connection to S3, and S3's errors as sentences with remedies.

S3's answers are distinguished by their codes (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
boto3 raises such an answer itself; s3fs raises Python's errors with the answer as their cause.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Any

from v2a_dpo.artifacts.causes import Cause, causal_chain
from v2a_dpo.errors import UserError

#: A request to an endpoint that does not answer fails after about half a minute, not after botocore's five. botocore
#: replaces `max_attempts` in the caller's dictionary, and s3fs would then open a second connection.
S3_CONFIG: dict[str, object] = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "retries": {"total_max_attempts": 4, "mode": "standard"},
}

CHECK_ADDRESS = "Check the address, the credentials and, if set, AWS_ENDPOINT_URL."
_LATER = "Run the same command again later; what is finished is kept."
_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names."
_EXPIRED = Cause(
    "the S3 credentials have expired",
    "Sign in again (such as `aws sso login`) or renew AWS_SESSION_TOKEN, then run the same command again.",
)
_UNKNOWN_KEYS = Cause("the S3 service does not accept these credentials", _KEYS)
_BUSY = Cause("the S3 service is overloaded or out of order", _LATER)
_OTHER_REGION = Cause("the bucket is in another region", "Set AWS_DEFAULT_REGION to the bucket's region.")
_FULL = Cause("the storage of the S3 service is full", "Free some space there, then run the same command again.")
_NO_ADDRESS = Cause("this is not an S3 address", "Write s3://bucket/folder.")
_CAUSES = {
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired", "RequestExpired"), _EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"), _UNKNOWN_KEYS),
    **dict.fromkeys(("SlowDown", "ServiceUnavailable", "InternalError", "500", "502", "503", "504"), _BUSY),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301"), _OTHER_REGION),
    **dict.fromkeys(("QuotaExceeded", "XMinioStorageFull", "507"), _FULL),
    "RequestTimeTooSkewed": Cause("this machine's clock is wrong", "Set the clock, then run the same command again."),
    "InvalidBucketName": _NO_ADDRESS,
}
_RIGHTS = {"read": "s3:GetObject and s3:ListBucket", "written": "s3:PutObject", "deleted": "s3:DeleteObject"}
#: Answers to a HEAD request, which have no body and so no reason.
_BARE = {"301", "400", "403", "404"}


def s3_endpoint() -> str | None:
    """The address of the S3 service that the environment names; None for Amazon's own.

    Raises UserError when it is not a web address.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if address := os.environ.get(name):
            if not re.match(r"https?://[^/]", address):
                remedy = "Write it with its scheme, such as http://localhost:9000."
                raise UserError(f"This is not a web address: {address}.", where=name, remedy=remedy)
            return address
    return None


def s3_client(**settings: Any) -> Any:
    """boto3's client of the S3 service, with `settings` on top of those of every connection."""
    import boto3
    from botocore.config import Config

    return boto3.client("s3", endpoint_url=s3_endpoint(), config=Config(**S3_CONFIG, **settings))


def s3_place(uri: str) -> dict[str, str]:
    """Bucket and key of `uri`, as S3's operations take them."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def s3_failures() -> tuple[type[Exception], ...]:
    """The errors of S3's packages that are not OSErrors."""
    from aiohttp import ClientError as ConnectionLost
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, ConnectionLost)


def is_bucket_missing(error: BaseException, uri: str) -> bool:
    """Whether `error` was raised because the bucket of `uri` does not exist."""
    return _code(error, s3_place(uri)) == "NoSuchBucket"


def s3_cause(error: BaseException, action: str, uri: str) -> Cause | None:
    """The cause of `error`, raised when a file at `uri` was to be `action`.

    None when it is not S3's, or when only the object is missing.
    """
    place = s3_place(uri)
    code = _code(error, place)
    if code is None:
        causes = (_connection_cause(item) for item in causal_chain(error))
        return next((cause for cause in causes if cause), None)
    if code == "NoSuchBucket":
        return Cause(f"{_service()} has no bucket {place['Bucket']}", "Check the bucket's name, or create the bucket.")
    if code in ("AccessDenied", "AllAccessDisabled", "403"):
        right = _RIGHTS.get(action, "s3:ListBucket")
        return Cause("these S3 credentials do not permit that", f"Give their owner the right {right} there.")
    others = Cause(f"S3 refuses: {code}", CHECK_ADDRESS)
    return None if code in ("404", "NoSuchKey") else _CAUSES.get(code, others)


def _connection_cause(error: BaseException) -> Cause | None:
    """The cause of an error raised before S3 could answer."""
    from aiohttp import ClientError as ConnectionLost
    from botocore import exceptions

    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError() | exceptions.ProfileNotFound():
            return Cause(f"the S3 credentials are missing ({error})", _KEYS)
        case exceptions.SSOError() | exceptions.TokenRetrievalError():
            return _EXPIRED
        case exceptions.ParamValidationError():
            return _NO_ADDRESS
        case exceptions.ConnectionError() | exceptions.HTTPClientError() | ConnectionLost() | TimeoutError():
            remedy = f"Check the network and, if set, AWS_ENDPOINT_URL. {_LATER}"
            return Cause(f"{_service()} does not answer ({error})", remedy)
    return None


def _code(error: BaseException, place: dict[str, str]) -> str | None:
    """S3's code for the error; None when the error is not an answer of S3."""
    from botocore.exceptions import ClientError

    answers = [item for item in causal_chain(error) if isinstance(item, ClientError)]
    if not answers:
        return None
    code = str(answers[0].response["Error"]["Code"])
    return _stated_code(place) or code if code in _BARE else code


def _stated_code(place: dict[str, str]) -> str | None:
    """S3's code for a request whose answer has a body; None when S3 does not refuse it, or does not answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    with suppress(BotoCoreError):
        try:
            s3_client().list_objects_v2(Bucket=place["Bucket"], Prefix=place["Key"], MaxKeys=1)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
    return None


def _service() -> str:
    endpoint = s3_endpoint()
    return f"the S3 service at {endpoint}" if endpoint else "Amazon S3"
