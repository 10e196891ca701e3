"""MLflow's scoring server behind limits: by itself it reads bodies of any size and shows some stack traces."""

from __future__ import annotations

import json
import os
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from v2a_dpo.config import ServeConfig
from v2a_dpo.errors import UserError
from v2a_dpo.serving.settings import ServingSettings

_MAX_ERROR_CHARACTERS = 500
#: Bodies of up to this many times the limit are received whole, so that their senders can read the refusal.
_DISCARDED = 4


def serve_packaged(packaged: Path, limits: ServeConfig, *, host: str, port: int, timeout_s: int) -> None:
    """Answers requests to `/invocations` until it is stopped, within `limits` instead of those that were packaged.

    Raises UserError when the model is damaged or cannot be loaded.
    """
    import uvicorn
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(timeout_s)
    try:
        model = pyfunc.load_model(str(packaged), model_config=limits.model_dump(mode="json"))
    except MlflowException as error:
        remedy = "Package the model again, or choose another version."
        raise UserError(f"The model cannot be served. {error.message}", where=str(packaged), remedy=remedy) from error
    settings = ServingSettings.model_validate(model.model_config)
    app = LimitedRequests(scoring_server.init(model), max_body_bytes=settings.max_body_bytes)
    uvicorn.run(app, host=host, port=port, log_level="info")


class LimitedRequests:
    """An ASGI application that accepts JSON bodies of at most `max_body_bytes` and keeps errors short.

    A larger body is 413 before it is in memory, another content type 415; an error of the application inside keeps its
    status, and its message is cut and has no stack trace.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._body(Request(scope, receive))
        except ClientDisconnect:
            return
        except HTTPException as refusal:
            await JSONResponse({"message": refusal.detail}, refusal.status_code)(scope, receive, send)
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        status, content = 200, b""

        async def received() -> Message:
            return next(messages, None) or await receive()

        async def send_short(message: Message) -> None:
            nonlocal status, content
            if message["type"] == "http.response.start":
                status = message["status"]
            if status < 400:
                await send(message)
            elif message["type"] == "http.response.body":
                content += message.get("body", b"")
                if not message.get("more_body", False):
                    await JSONResponse({"message": _short(content)}, status)(scope, receive, send)

        await self._app(scope, received, send_short)

    async def _body(self, request: Request) -> bytes:
        """The whole body; raises HTTPException for one that is not accepted, as soon as that is certain."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "Send JSON, with the header Content-Type: application/json.")
        limit = self._max_body_bytes
        refusal = HTTPException(413, f"The request is too large: at most {limit / (1 << 20):.3g} MiB are accepted.")
        declared = request.headers.get("content-length", "0")
        too_large = declared.isdecimal() and int(declared) > limit
        if too_large and "expect" in request.headers:
            raise refusal  # the client waits for leave to send
        body, received = bytearray(), 0
        # Many clients read no answer before they have sent everything: a body that is too large is received and
        # discarded, up to a limit.
        async for piece in request.stream():
            received += len(piece)
            too_large = too_large or received > limit
            body = bytearray() if too_large else body + piece
            if received > _DISCARDED * limit:
                break
        if too_large:
            raise refusal
        if _holds_params(bytes(body)):
            raise HTTPException(400, "`params` are not accepted: give `seed` and the others as columns of each row.")
        return bytes(body)


def _holds_params(body: bytes) -> bool:
    """Whether the body has `params` beside its rows, which have no meaning here and which MLflow would ignore."""
    try:
        content = json.loads(body)
    except ValueError:
        return False  # MLflow refuses it
    return isinstance(content, dict) and bool(content.get("params"))


def _short(body: bytes) -> str:
    """The message in an error's body, cut."""
    try:
        text = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace").strip()
    return text if len(text) <= _MAX_ERROR_CHARACTERS else text[:_MAX_ERROR_CHARACTERS] + " ..."
