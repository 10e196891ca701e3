from __future__ import annotations

import json

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from v2a_dpo.serving.scoring_server import LimitedRequests

LIMIT = 1000


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers the body; `fail` is answered as MLflow answers what it cannot parse."""
    body = (await receive())["body"] if scope["method"] == "POST" else b"alive"
    failed = body == b'"fail"'
    if failed:
        body = json.dumps({"message": "wrong " * 1000, "stack_trace": "Traceback: /server/file.py"}).encode()
    await send({"type": "http.response.start", "status": 400 if failed else 200, "headers": []})
    await send({"type": "http.response.body", "body": body[:3], "more_body": True})
    await send({"type": "http.response.body", "body": body[3:]})


async def ask(content: object, *, content_type: str = "application/json") -> httpx.Response:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(LimitedRequests(echo, max_body_bytes=LIMIT)),  # type: ignore[arg-type]
        base_url="http://server",
    ) as client:
        headers = {"Content-Type": content_type}
        return await client.post("/invocations", content=content, headers=headers)  # type: ignore[arg-type]


def answer(content: object, **arguments: str) -> httpx.Response:
    import asyncio

    return asyncio.run(ask(content, **arguments))


def test_a_body_within_the_limit_goes_through() -> None:
    response = answer(b'"' + b"x" * (LIMIT - 2) + b'"')
    assert (response.status_code, len(response.content)) == (200, LIMIT)


def test_a_body_over_the_limit_is_413_whether_it_declares_its_size_or_not() -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b"x" * 100

    for content in (b"x" * (LIMIT + 1), pieces()):
        response = answer(content)
        assert response.status_code == 413
        assert response.json() == {"message": "The request is too large: at most 0.000954 MiB are accepted."}


def test_a_body_without_end_is_not_received_to_its_end() -> None:
    sent = 0

    async def pieces():  # type: ignore[no-untyped-def]
        nonlocal sent
        for _ in range(1000):
            sent += 100
            yield b"x" * 100

    assert answer(pieces()).status_code == 413
    assert 4 * LIMIT < sent < 5 * LIMIT


@pytest.mark.parametrize("content_type", ["text/csv", "application/vnd.apache.parquet", ""])
def test_what_is_not_json_is_415(content_type: str) -> None:
    assert answer(b"a,b", content_type=content_type).status_code == 415


def test_an_error_keeps_its_status_and_loses_its_stack_trace() -> None:
    response = answer(b'"fail"')
    assert response.status_code == 400
    assert "Traceback" not in response.text
    assert response.json()["message"].endswith(" ...")
    assert len(response.text) < 600
