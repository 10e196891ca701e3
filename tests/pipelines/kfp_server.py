"""A stand-in for the REST API of Kubeflow Pipelines: a real server on loopback that keeps what it is sent.

It answers what `kfp.Client` asks (paths of version v2beta1), as a server of 2.17 does: nodes of the workflow carry no
pod names, and moments that have not come are the beginning of 1970. A run moves on by one task with every look at it.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml

from tests.loopback import LoopbackServer, QuietHandler

Answer = tuple[int, dict[str, Any]]
NEVER = "1970-01-01T00:00:00Z"
PREFIX = "/apis/v2beta1"


@dataclass
class Recorded:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    authorization: str
    body: Any


@dataclass
class KubeflowServer(LoopbackServer):
    """The server's state, and the failures it is told to make."""

    token: str | None = None
    #: None: one user, who may not name a namespace.
    namespaces: set[str] | None = None
    #: The names of a run's tasks in their order; `fails_at` names the one that fails.
    tasks: tuple[str, ...] = ()
    fails_at: str | None = None
    #: Whether a web page answers everything, as a gateway does to those without a token.
    login_page: bool = False
    #: (method, path, status) of failures to come, each once.
    failures: list[tuple[str, str, int]] = field(default_factory=list)
    requests: list[Recorded] = field(default_factory=list)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = count(1)
        LoopbackServer.__init__(self, self._handler())

    def asked(self, method: str, pattern: str) -> list[Recorded]:
        """The requests of a method whose path, without its prefix, matches."""
        return [each for each in self.requests if each.method == method and re.fullmatch(PREFIX + pattern, each.path)]

    def answer(self, request: Recorded) -> Answer:
        self.requests.append(request)
        for failure in self.failures:
            method, path, status = failure
            if (request.method, request.path) == (method, PREFIX + path):
                self.failures.remove(failure)
                return status, {"code": 13, "message": f"ordered failure {status}"}
        if self.token is not None and request.authorization != f"Bearer {self.token}":
            return 401, {"code": 16, "message": "Unauthenticated"}
        namespace = request.query.get("namespace") or (request.body or {}).get("namespace")
        if namespace and self.namespaces is None:
            return 400, {"code": 3, "message": "In single-user mode, no namespace may be given"}
        if namespace and namespace not in (self.namespaces or ()):
            return 403, {"code": 7, "message": f"no access to namespace {namespace}\nstack trace"}
        for method, pattern, answer in self._routes:
            found = re.fullmatch(PREFIX + pattern, request.path)
            if found and method == request.method:
                return answer(self, request, *found.groups())
        return 404, {"code": 5, "message": f"no such path {request.path}"}

    def healthz(self, request: Recorded) -> Answer:
        return 200, {"multi_user": self.namespaces is not None}

    def list_pipelines(self, request: Recorded) -> Answer:
        return 200, {"pipelines": _filtered(self.pipelines, request)}

    def create_pipeline(self, request: Recorded) -> Answer:
        return self._create(self.pipelines, "pipeline_id", request.body)

    def upload_version(self, request: Recorded) -> Answer:
        text = request.body["uploadfile"].decode()
        spec, *platforms = yaml.load_all(text, Loader=yaml.CSafeLoader)
        return self._create(
            self.versions,
            "pipeline_version_id",
            {
                "pipeline_id": request.query["pipelineid"],
                "display_name": request.query["name"],
                "pipeline_spec": {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec,
                "text": text,
            },
        )

    def list_versions(self, request: Recorded, pipeline_id: str) -> Answer:
        there = {key: each for key, each in self.versions.items() if each["pipeline_id"] == pipeline_id}
        return 200, {"pipeline_versions": _filtered(there, request)}

    def version(self, request: Recorded, pipeline_id: str, version_id: str) -> Answer:
        return _one(self.versions, version_id)

    def list_experiments(self, request: Recorded) -> Answer:
        return 200, {"experiments": _filtered(self.experiments, request)}

    def create_experiment(self, request: Recorded) -> Answer:
        return self._create(self.experiments, "experiment_id", request.body)

    def create_run(self, request: Recorded) -> Answer:
        created = {"state": "PENDING", "created_at": "2026-11-23T04:00:00Z", "finished_at": NEVER, "looks": 0}
        return self._create(self.runs, "run_id", created | request.body)

    def list_runs(self, request: Recorded) -> Answer:
        return 200, {"runs": list(reversed(self.runs.values()))}

    def run(self, request: Recorded, run_id: str) -> Answer:
        status, run = _one(self.runs, run_id)
        if status != 200:
            return status, run
        looks = run["looks"] = run["looks"] + 1
        if run["state"] not in ("CANCELED", "SUCCEEDED", "FAILED"):
            running = self.tasks[looks - 1] if looks <= len(self.tasks) else None
            failed = self.fails_at in self.tasks[: looks - 1]
            run["state"] = "FAILED" if failed else "RUNNING" if running else "SUCCEEDED"
            if failed:
                run["error"] = {"code": 13, "message": f"task {self.fails_at} failed"}
            run["run_details"] = {"task_details": self._nodes(looks)}
        return 200, run

    def terminate(self, request: Recorded, run_id: str) -> Answer:
        self.runs[run_id]["state"] = "CANCELED"
        return 200, {}

    def create_recurring(self, request: Recorded) -> Answer:
        return self._create(self.recurring, "recurring_run_id", {"status": "ENABLED"} | request.body)

    def list_recurring(self, request: Recorded) -> Answer:
        """One on each page, so that paging is used."""
        found = list(self.recurring.values())
        start = int(request.query.get("page_token") or 0)
        more = {"next_page_token": str(start + 1)} if start + 1 < len(found) else {}
        return 200, {"recurringRuns": found[start : start + 1]} | more

    def delete_recurring(self, request: Recorded, recurring_run_id: str) -> Answer:
        del self.recurring[recurring_run_id]
        return 200, {}

    _routes: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
        ("GET", "/healthz", healthz),
        ("GET", "/pipelines", list_pipelines),
        ("POST", "/pipelines", create_pipeline),
        ("POST", "/pipelines/upload_version", upload_version),
        ("GET", "/pipelines/([^/]+)/versions", list_versions),
        ("GET", "/pipelines/([^/]+)/versions/([^/]+)", version),
        ("GET", "/experiments", list_experiments),
        ("POST", "/experiments", create_experiment),
        ("POST", "/runs", create_run),
        ("GET", "/runs", list_runs),
        ("GET", "/runs/([^/:]+)", run),
        ("POST", "/runs/([^/:]+):terminate", terminate),
        ("POST", "/recurringruns", create_recurring),
        ("GET", "/recurringruns", list_recurring),
        ("DELETE", "/recurringruns/([^/]+)", delete_recurring),
    )

    def _create(self, table: dict[str, dict[str, Any]], key: str, body: dict[str, Any]) -> Answer:
        created = body | {key: f"{key}-{next(self._ids)}"}
        table[created[key]] = created
        return 200, created

    def _nodes(self, looks: int) -> list[dict[str, Any]]:
        """The workflow's nodes at the `looks`-th look: each task has a driver, a node of its name, and an executor in
        it."""
        nodes = [_node("root-driver", "SUCCEEDED"), _node("root", "RUNNING")]
        for position, name in enumerate(self.tasks[:looks]):
            over = position < looks - 1
            state = "RUNNING" if not over else "FAILED" if name == self.fails_at else "SUCCEEDED"
            nodes += [_node(f"{name}-driver", "SUCCEEDED"), _node(name, state), _node("executor", state)]
            if name == self.fails_at:
                break
        return nodes

    def _handler(server) -> type[QuietHandler]:
        class Handler(QuietHandler):
            def handle_any(self) -> None:
                url = urlparse(self.path)
                request = Recorded(
                    self.command,
                    url.path,
                    {name: values[0] for name, values in parse_qs(url.query).items()},
                    self.headers.get("Authorization", ""),
                    _body(self.body(), self.headers.get("Content-Type", "")),
                )
                status, answer = server.answer(request)
                if server.login_page:
                    self.reply(200, b"<html>Log in</html>", "text/html")
                else:
                    self.reply(status, json.dumps(answer).encode())

            do_GET = do_POST = do_DELETE = handle_any

        return Handler


def _body(content: bytes, content_type: str) -> Any:
    if content_type.startswith("multipart/form-data"):
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        parts = email.message_from_bytes(head + content, policy=email.policy.HTTP).iter_parts()
        return {part.get_param("name", header="content-disposition"): part.get_content() for part in parts}
    return json.loads(content) if content else None


def _filtered(table: dict[str, dict[str, Any]], request: Recorded) -> list[dict[str, Any]]:
    """The rows of a table that a filter lets through: all of its predicates say a field equals a text."""
    predicates = json.loads(request.query.get("filter") or "{}").get("predicates", [])
    assert all(predicate["operation"] in ("EQUALS", 1) for predicate in predicates)
    wanted = {
        predicate["key"]: predicate.get("string_value") or predicate.get("stringValue") for predicate in predicates
    }
    return [row for row in table.values() if all(row[key] == text for key, text in wanted.items())]


def _one(table: dict[str, dict[str, Any]], key: str) -> Answer:
    return (200, table[key]) if key in table else (404, {"code": 5, "message": f"{key} not found"})


def _node(name: str, state: str) -> dict[str, Any]:
    return {
        "display_name": name,
        "state": state,
        "start_time": "2026-11-23T04:00:00Z",
        "end_time": NEVER if state == "RUNNING" else "2026-11-23T04:01:30Z",
    }
