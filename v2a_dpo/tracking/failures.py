"""Errors of MLflow's server, its database and the S3 that holds its files as sentences with remedies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from v2a_dpo.artifacts.causes import Cause, causal_chain
from v2a_dpo.errors import UserError

_ADDRESSES = "MLFLOW_TRACKING_URI is a server's root, such as http://localhost:5000, or a file: sqlite:///mlflow.db."
_NO_ADDRESS = Cause("This is not the address of an MLflow.", _ADDRESSES)
_NO_ANSWER = Cause(
    "MLflow's server does not answer.",
    "Check that the server which MLFLOW_TRACKING_URI names runs, or unset the variable to use a local database.",
)
_NOT_MLFLOW = Cause("The server at this address is not MLflow.", f"Check the host and the port. {_ADDRESSES}")
_CREDENTIALS = Cause(
    "MLflow's server refuses these credentials.",
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
)
_NOT_PERMITTED = Cause(
    "MLflow's server does not permit this.",
    "Ask its owner for the right; a server that refuses its own host name is started with --allowed-hosts.",
)
_DATABASE = Cause("MLflow's database cannot be used.", f"Check the file and the rights in its folder. {_ADDRESSES}")
_FILES = Cause(
    "S3 refuses access to MLflow's files.",
    "Check the bucket, the credentials and, if set, MLFLOW_S3_ENDPOINT_URL; MLflow's server itself answers.",
)
_OTHER = Cause("MLflow refused the request.", "Correct that, then run the same command again.")
#: MLflow's message for an answer that it cannot parse: a page of another program, or a proxy's refusal.
_UNREADABLE = ("API request to endpoint", "INTERNAL_ERROR: Response:")
_LONGEST_MESSAGE = 500


def public_uri(uri: str) -> str:
    """`uri` without a user's name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


@contextmanager
def failures_reported(uri: str) -> Iterator[None]:
    """Turns errors of MLflow and its stores into UserErrors that name the tracking server, the cause and the remedy."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, Boto3Error, BotoCoreError, ClientError) as error:
        cause = _cause(error)
        message = str(error).strip().removesuffix(".")[:_LONGEST_MESSAGE]
        raise UserError(f"{cause.what} Its message: {message}.", where=public_uri(uri), remedy=cause.remedy) from error
    except ModuleNotFoundError as error:  # the driver of a database
        remedy = f"Install it where this command runs: pip install {error.name}."
        raise UserError(f"This MLflow needs the package {error.name}.", where=public_uri(uri), remedy=remedy) from error


def _cause(error: Exception) -> Cause:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import InvalidUrlException, MlflowException
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    def is_behind(*kinds: type[Exception]) -> bool:
        return any(isinstance(item, kinds) for item in causal_chain(error))

    code = error.error_code if isinstance(error, MlflowException) else None
    unsaid = code in (None, "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # MLflow itself names no reason
    causes = (
        (code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"), _CREDENTIALS),
        (code == "PERMISSION_DENIED", _NOT_PERMITTED),
        (is_behind(InvalidUrlException, UnsupportedModelRegistryStoreURIException), _NO_ADDRESS),
        (is_behind(Boto3Error, BotoCoreError, ClientError), _FILES),
        (unsaid and is_behind(RequestException), _NO_ANSWER),
        (unsaid and is_behind(SQLAlchemyError), _DATABASE),
        (str(error).startswith(_UNREADABLE), _NOT_MLFLOW),
    )
    return next((cause for holds, cause in causes if holds), _OTHER)
