"""A stand-in for the part of the Kubernetes API that lists pods and gives their logs."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlparse

from tests.loopback import LoopbackServer, QuietHandler


class PodServer(LoopbackServer):
    """Pods by name, each with the node that it ran in the workflow of the run `run_id`, and what it wrote."""

    def __init__(self, run_id: str, namespace: str) -> None:
        self.run_id = run_id
        self.namespace = namespace
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.forbidden = False
        super().__init__(self._handler())

    def add(self, name: str, node: str, *, phase: str = "Succeeded", minute: int = 0, log: str | None = "") -> None:
        """Adds a pod; its container has not started if `log` is None."""
        self.pods[name] = {
            "metadata": {
                "name": name,
                "labels": {"pipeline/runid": self.run_id},
                "annotations": {"workflows.argoproj.io/node-name": f"v2a-dpo-x7k2p.{node}"},
            },
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": phase, "startTime": f"2026-11-23T04:{minute:02}:00Z"},
        }
        if log is not None:
            self.logs[name] = log

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, str]:
        if self.forbidden or f"/namespaces/{self.namespace}/" not in path:
            return 403, json.dumps(
                {"kind": "Status", "reason": "Forbidden", "message": "pods is forbidden", "code": 403}
            )
        if found := re.fullmatch(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log", path):
            name = found[1]
            if name not in self.logs:
                return 400, json.dumps({"kind": "Status", "reason": "BadRequest", "code": 400})
            lines = self.logs[name].splitlines(keepends=True)
            assert query["container"] == ["main"]
            return 200, "".join(lines[-int(query["tailLines"][0]) :] if "tailLines" in query else lines)
        label, _, value = query["labelSelector"][0].partition("=")
        chosen = [pod for pod in self.pods.values() if pod["metadata"]["labels"].get(label) == value]
        return 200, json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": chosen})

    def _handler(server) -> type[QuietHandler]:
        class Handler(QuietHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                status, answer = server.answer(url.path, parse_qs(url.query))
                self.reply(status, answer.encode(), "application/json" if answer.startswith("{") else "text/plain")

        return Handler
