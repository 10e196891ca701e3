"""What stands before MLflow's scoring server: it reads bodies of any size, and shows stack traces for some bad ones."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_MAX_ERROR_CHARACTERS = 500
#: Bodies of up to so many times the limit are received to their end, so that their senders read why they are refused.
_THROWN_AWAY = 4
#: What a body may hold beside the rows without a meaning here: MLflow would leave it out without a word.
_NOT_TAKEN = "params"


class LimitedRequests:
    """An ASGI application that takes JSON bodies of at most `max_body_bytes` and keeps errors short.

    Too large a body is 413 before it is in memory, another content type 415; an error of the application inside keeps
    its status, and its message is cut and carries no stack trace.
    """

    def __init__(self, app: App, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            await _refuse(send, 415, "Send JSON, with the header Content-Type: application/json.")
            return
        body = await self._body(headers, receive)
        if body is None:
            await _refuse(
                send, 413, f"The request is too large: at most {self._max_body_bytes / (1 << 20):.3g} MiB are taken."
            )
            return
        if _holds_params(body):
            await _refuse(
                send, 400, f"`{_NOT_TAKEN}` are not taken: give `seed` and the others as columns of each row."
            )
            return

        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def received() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, received, _ShortErrors(send).send)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it is known to be too large."""
        declared = headers.get(b"content-length", b"0")
        too_large = declared.isdigit() and int(declared) > self._max_body_bytes
        if too_large and b"expect" in headers:
            return None  # the client waits for leave to send
        body, received, more = bytearray(), 0, True
        # Many clients read no answer before they have sent all: what is too much is thrown away as it comes, for a
        # while.
        while more and received <= _THROWN_AWAY * self._max_body_bytes:
            message = await receive()
            piece, more = message.get("body", b""), message.get("more_body", False)
            received += len(piece)
            too_large = too_large or received > self._max_body_bytes
            if too_large:
                body.clear()
            else:
                body += piece
        return None if too_large else bytes(body)


class _ShortErrors:
    """Sends an answer on as it comes, and an error as one short JSON message."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 200
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        if self._status < 400:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await _refuse(self._send, self._status, _short(self._body))


def _holds_params(body: bytes) -> bool:
    try:
        content = json.loads(body)
    except ValueError:
        return False  # MLflow says so
    return isinstance(content, dict) and bool(content.get(_NOT_TAKEN))


def _short(body: bytes) -> str:
    """The message in an error's body, cut."""
    try:
        text = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace").strip()
    return text if len(text) <= _MAX_ERROR_CHARACTERS else text[:_MAX_ERROR_CHARACTERS] + " ..."


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"message": message}, allow_nan=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
