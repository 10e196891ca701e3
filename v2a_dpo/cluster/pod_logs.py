"""Logs of a run's tasks, read from their pods.

The API of Kubeflow Pipelines gives neither logs nor the pods' names (kubeflow/pipelines#12388, #14007). But every pod
has the run's id as a label and its place in the workflow as an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3
from kubernetes import client

from v2a_dpo.cluster.kubernetes_access import api_client
from v2a_dpo.errors import UserError

_RUN_LABEL = "pipeline/runid"
_NODE_ANNOTATION = "workflows.argoproj.io/node-name"
_CONTAINER = "main"
#: Parts of a node's path that are no names from the pipeline's source.
_IS_PLUMBING = re.compile(r"root$|iteration-|for-loop-|condition-|exit-handler-")
_NEEDS = "Logs come from Kubernetes: you need a kubeconfig and the right to list pods and read their logs"


@dataclass(frozen=True)
class TaskPod:
    """A pod that runs or ran a task."""

    name: str
    task: str
    #: The nested pipelines that the task is in, the outermost first.
    within: tuple[str, ...]
    #: Where in loops, as in `2` or `0, 4`; and which attempt. Empty where there is none.
    iteration: str
    attempt: str
    phase: str
    start: datetime | None

    @property
    def title(self) -> str:
        """The task with its place in the run, for people."""
        parts = [
            "/".join((*self.within, self.task)),
            f"iteration {self.iteration}" if self.iteration else "",
            f"attempt {self.attempt}" if self.attempt else "",
        ]
        return ", ".join(filter(None, parts)) + f" ({self.phase}, pod {self.name})"

    @classmethod
    def of(cls, pod: Any) -> TaskPod | None:
        """The task of `pod` (a V1Pod), or None for pods that only drive the workflow.

        A node's name is a path such as `v2a-dpo-x7k2p.root.for-loop-1.iteration-item(2:2).generate.executor(0)`.
        """
        path = ((pod.metadata.annotations or {}).get(_NODE_ANNOTATION) or "").split(".")
        if len(path) < 2 or not path[-1].startswith("executor"):
            return None
        within = tuple(part for part in path[1:-2] if not _IS_PLUMBING.match(part))
        numbers = [number for part in path[:-2] if (number := _number(part)) is not None]
        return cls(
            name=pod.metadata.name,
            task=path[-2].partition("(")[0],
            within=within,
            iteration=", ".join(numbers),
            attempt=_number(path[-1]) or "",
            phase=pod.status.phase or "Unknown",
            start=pod.status.start_time,
        )


class PodLogs:
    """The pods of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._api = client.CoreV1Api(api_client())

    def pods(self, run_id: str) -> list[TaskPod]:
        """The pods of a run's tasks that still exist, in the order of their start."""
        try:
            items = self._api.list_namespaced_pod(
                self._namespace, label_selector=f"{_RUN_LABEL}={run_id}", _request_timeout=(5, 60)
            ).items
        except client.ApiException as error:
            raise self._refusal(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise UserError(
                "Kubernetes does not answer.", where=self._api.api_client.configuration.host, remedy=f"{_NEEDS}."
            ) from error
        pods = [pod for each in items if (pod := TaskPod.of(each)) is not None]
        return sorted(pods, key=lambda pod: (pod.start is None, pod.start.timestamp() if pod.start else 0.0, pod.name))

    def lines(self, pod: TaskPod, *, tail: int | None, follow: bool) -> Iterator[str]:
        """The last `tail` lines of a pod's log, or all; with `follow` also those to come."""
        try:
            stream = self._api.read_namespaced_pod_log(
                pod.name, self._namespace, container=_CONTAINER, tail_lines=tail, follow=follow, _preload_content=False
            )
        except client.ApiException as error:
            if error.status == 400:  # its container has not started
                return
            raise self._refusal(error) from error
        rest = b""
        for chunk in stream.stream():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if rest:
            yield rest.decode(errors="replace")

    def _refusal(self, error: client.ApiException) -> UserError:
        remedy = f"{_NEEDS} in the namespace {self._namespace}."
        return UserError(
            f"Kubernetes refused ({error.status} {error.reason}).", where=f"namespace {self._namespace}", remedy=remedy
        )


def _number(part: str) -> str | None:
    """The number in brackets at the end of a path's part: an iteration or an attempt."""
    match = re.search(r"\((\d+)(?::[^)]*)?\)$", part)
    return match[1] if match else None
