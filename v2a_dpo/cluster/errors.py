"""Errors of the client of Kubeflow Pipelines, turned into errors that name the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import kfp_server_api
import urllib3

from v2a_dpo.errors import UserError


class UnreachableError(UserError):
    """The server could not be reached or failed by itself; trying again later may help."""


class NotLoggedInError(UserError):
    """The server does not accept the token."""


@contextmanager
def explained(what: str, *, host: str, namespace: str | None) -> Iterator[None]:
    """Turns an error of the client about `what`, such as "the run 7", into a UserError that names the remedy."""
    try:
        yield
    except kfp_server_api.ApiException as error:
        raise _refusal(error, what=what, host=host, namespace=namespace) from error
    except urllib3.exceptions.HTTPError as error:
        remedy = "Check KFP_HOST and that you can reach it, for example that `kubectl port-forward` still runs."
        raise UnreachableError(
            f"Kubeflow Pipelines does not answer: {_cause(error)}.", where=host, remedy=remedy
        ) from error


def _refusal(error: kfp_server_api.ApiException, *, what: str, host: str, namespace: str | None) -> UserError:
    """The error that explains the server's refusal."""
    status, message, kind = error.status, _message(error), UserError
    if status == 401:
        kind, text = NotLoggedInError, "Kubeflow Pipelines does not accept the token (401)."
        remedy = "Set KFP_TOKEN, or name a file with a fresh token by --token-file."
    elif status == 403:
        text = f"Access to {what} is not allowed (403). {message}"
        remedy = "Check that --namespace exists and that your account may use pipelines in it."
    elif status == 404:
        text = f"Kubeflow Pipelines has not found {what} (404)."
        remedy = "`v2a-dpo pipeline status` lists the latest runs."
    elif status in (0, 429) or status >= 500:
        kind, text = UnreachableError, f"Kubeflow Pipelines failed at {what} ({status}). {message}"
        remedy = "Try again; if it fails again, see the log of the deployment ml-pipeline."
    else:
        text, remedy = f"Kubeflow Pipelines refused {what} ({status}). {message}", "Correct the request."
    return kind(text, where=f"{host}, namespace {namespace}" if namespace else host, remedy=remedy)


def _message(error: kfp_server_api.ApiException) -> str:
    """The first line of the server's message."""
    try:
        body = json.loads(error.body or "{}")
    except ValueError:
        return str(error.reason or "")
    text = body.get("error_message") or body.get("message") or body.get("error") or error.reason or ""
    return str(text).splitlines()[0] if text else ""


def _cause(error: urllib3.exceptions.HTTPError) -> str:
    """Why a connection failed, in a few words."""
    reason = getattr(error, "reason", None) or error
    return type(reason).__name__ + (f" ({str(reason).rpartition(': ')[2]})" if str(reason) else "")
