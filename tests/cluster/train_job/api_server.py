"""A stand-in for the part of the Kubernetes API that training jobs need: TrainJobs, their pods, and the pods' logs.

It takes a TrainJob only if the custom resource's own schema does. What a controller would do is told by the test: a
`script` of changes, one each time somebody asks for a job; or `run_commands`, and the job's command really runs here.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlparse

from tests.crd_schema import custom_resource_errors
from tests.loopback import LoopbackServer, QuietHandler

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/here/trainjobs"
PODS = "/api/v1/namespaces/here/pods"
Job = dict[str, Any]


def condition(kind: str, reason: str, message: str) -> dict[str, str]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}


class ApiServer(LoopbackServer):
    """The namespace `here`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.created: list[Job] = []
        self.deleted: list[str] = []
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[str]] = {}
        self.script: list[Callable[[Job], object]] = []
        self.run_commands: Mapping[str, str] | None = None
        self.forbidden: set[str] = set()
        #: What the next requests get instead of an answer: a status, or None for a connection that is cut.
        self.trouble: list[int | None] = []
        self.requests: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._clock = 0
        self._lock = threading.RLock()
        super().__init__(self._handler())

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for process in self._processes:
            process.kill()
            process.wait()

    def end(self, job: Job, kind: str, reason: str, message: str) -> None:
        job.setdefault("status", {})["conditions"] = [condition(kind, reason, message)]

    def add_pod(self, job: Job, name: str, *, phase: str = "Running", **status: Any) -> None:
        labels = {"jobset.sigs.k8s.io/jobset-name": job["metadata"]["name"]}
        self.pods[name] = {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase, **status}}

    def write_log(self, pod: str, *lines: str) -> None:
        """Lines that the pod's container wrote one after the other, a millisecond apart."""
        with self._lock:
            for line in lines:
                self._clock += 1
                stamp = f"2026-11-23T04:00:{self._clock // 1000:02}.{self._clock % 1000:03}000000Z"
                self.logs.setdefault(pod, []).append(f"{stamp} {line}\n")

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        with self._lock:
            name = path.rpartition("/")[2]
            if path == JOBS and method == "POST":
                return self._guarded("create trainjobs", lambda: self._create(json.loads(body)))
            if path == f"{JOBS}/{name}" and method == "GET":
                return self._guarded("get trainjobs", lambda: self._get(name))
            if path == f"{JOBS}/{name}" and method == "DELETE":
                assert query["propagationPolicy"] == ["Background"]
                return self._guarded("delete trainjobs", lambda: self._delete(name))
            if path == PODS and method == "GET":
                return self._guarded("list pods", lambda: self._list(query["labelSelector"][0]))
            if (found := re.fullmatch(rf"{PODS}/([^/]+)/log", path)) and method == "GET":
                assert query["container"] == ["node"]
                return self._guarded("get pods/log", lambda: self._log(found[1]))
            return 404, status(404, "NotFound", "the server could not find the requested resource")

    def _guarded(self, what: str, answer: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
        self.requests.append(what)
        if what in self.forbidden:
            return 403, status(403, "Forbidden", f"User system:serviceaccount:here:x cannot {what}")
        return answer()

    def _create(self, job: Job) -> tuple[int, Any]:
        name = job["metadata"]["name"]
        errors = custom_resource_errors(job)
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63:
            errors.append("$.metadata.name: not an RFC 1035 label")
        if errors:
            return 422, status(422, "Invalid", "; ".join(errors))
        if name in self.jobs:
            return 409, status(409, "AlreadyExists", f'trainjobs "{name}" already exists')
        self.jobs[name] = job
        self.created.append(json.loads(json.dumps(job)))
        if self.run_commands is not None:
            self._run(job, self.run_commands)
        return 201, job

    def _get(self, name: str) -> tuple[int, Any]:
        if name not in self.jobs:
            return 404, status(404, "NotFound", f'trainjobs "{name}" not found')
        if self.script:
            self.script.pop(0)(self.jobs[name])
        return (200, self.jobs[name]) if name in self.jobs else self._get(name)

    def _delete(self, name: str) -> tuple[int, Any]:
        if self.jobs.pop(name, None) is None:
            return 404, status(404, "NotFound", f'trainjobs "{name}" not found')
        self.deleted.append(name)
        for pod in [pod for pod, content in self.pods.items() if name in content["metadata"]["labels"].values()]:
            del self.pods[pod]
        return 200, {"kind": "Status", "status": "Success"}

    def _list(self, selector: str) -> tuple[int, Any]:
        label, _, value = selector.partition("=")
        chosen = [pod for pod in self.pods.values() if pod["metadata"]["labels"].get(label) == value]
        return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": chosen}

    def _log(self, pod: str) -> tuple[int, Any]:
        if pod not in self.pods:
            return 404, status(404, "NotFound", f'pods "{pod}" not found')
        if pod not in self.logs:
            return 400, status(400, "BadRequest", f'container "node" in pod "{pod}" is waiting to start')
        return 200, "".join(self.logs[pod])

    def _run(self, job: Job, environment: Mapping[str, str]) -> None:
        """Runs the job's one node as Trainer would: its command and arguments, with torchrun's PET_ variables."""
        trainer, pod = job["spec"]["trainer"], f"{job['metadata']['name']}-node-0-0-abcde"
        torchrun, *command = [*trainer["command"], *trainer["args"]]
        assert (torchrun, trainer["numNodes"]) == ("torchrun", 1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        place = {
            "PET_NNODES": "1", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port,
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        }  # fmt: skip
        own = {item["name"]: item["value"] for item in trainer["env"]}
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *command],
            env={**os.environ, **environment, **place, **own},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._processes.append(process)
        self.add_pod(job, pod)
        threading.Thread(target=self._watch, args=(job, pod, process), daemon=True).start()

    def _watch(self, job: Job, pod: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.write_log(pod, line.rstrip("\n"))
        failed = process.wait() != 0
        self.pods[pod]["status"]["phase"] = "Failed" if failed else "Succeeded"
        self.end(job, *(("Failed", "JobsFailed", "jobs failed") if failed else ("Complete", "JobsCompleted", "done")))

    def _handler(server) -> type[QuietHandler]:
        class Handler(QuietHandler):
            def handle_any(self) -> None:
                body = self.body()
                if server.trouble:
                    code, answer = server.trouble.pop(0), "away"
                    if code is None:
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                else:
                    url = urlparse(self.path)
                    code, answer = server.answer(self.command, url.path, parse_qs(url.query), body)
                if isinstance(answer, str):
                    self.reply(code, answer.encode(), "text/plain")
                else:
                    self.reply(code, json.dumps(answer).encode())

            do_GET = do_POST = do_DELETE = handle_any

        return Handler


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
