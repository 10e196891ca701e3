"""The calls of the Kubernetes API that a training job needs, tried again while the API server does not answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import urllib3
from kubernetes import client

from v2a_dpo.cluster.kubernetes_access import api_client
from v2a_dpo.cluster.train_job.manifest import GROUP, NODE, PLURAL, VERSION
from v2a_dpo.errors import UserError

#: Seconds before each retry of a call: ten minutes in total, as long as an upgrade of a control plane.
POLL_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, *[60.0] * 9)
_TIMEOUTS_S = (5, 60)
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


class NotFound(Exception):  # noqa: N818 - an answer, not a fault
    """There is no such object."""


class AlreadyExists(Exception):  # noqa: N818
    """An object of that name exists."""


class Cluster:
    """TrainJobs and their pods in one namespace."""

    def __init__(
        self,
        namespace: str,
        *,
        retry_delays_s: Sequence[float] = POLL_DELAYS_S,
        report: Callable[[str], None] = print,
    ) -> None:
        self.namespace = namespace
        self._jobs = (GROUP, VERSION, namespace, PLURAL)
        self._delays_s = retry_delays_s
        self.report = report
        api = api_client(retries=False)  # _call retries and reports
        self._host = api.configuration.host
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)

    def create_job(self, manifest: dict[str, Any]) -> None:
        """Creates a TrainJob; raises AlreadyExists for a name in use."""
        self._call("create trainjobs", self._objects.create_namespaced_custom_object, *self._jobs, manifest)

    def job(self, name: str) -> dict[str, Any]:
        """The TrainJob in its present state; raises NotFound."""
        job: dict[str, Any] = self._call(
            "get trainjobs", self._objects.get_namespaced_custom_object, *self._jobs, name
        )  # fmt: skip
        return job

    def delete_job(self, name: str) -> None:
        """Deletes a TrainJob if it exists, and in the background its pods."""
        delete = self._objects.delete_namespaced_custom_object
        with suppress(NotFound):
            self._call("delete trainjobs", delete, *self._jobs, name, propagation_policy="Background")

    def pods(self, job: str) -> list[dict[str, Any]]:
        """The existing pods of a TrainJob, sorted by name; Trainer gives their JobSet the name of the job."""
        answer = self._call(
            "list pods",
            self._core.list_namespaced_pod,
            self.namespace,
            label_selector=f"jobset.sigs.k8s.io/jobset-name={job}",
            _preload_content=False,  # the client's classes reject answers of other versions that lack a field
        )
        pods: list[dict[str, Any]] = json.loads(answer.data)["items"]
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def log_lines(self, pod: str, *, since_s: int | None) -> list[str]:
        """The lines of a pod's container (in the last `since_s` seconds), each with its time stamp in front.

        Empty before the container starts and after the pod is deleted.
        """
        try:
            answer = self._call(
                "get pods/log", self._core.read_namespaced_pod_log, pod, self.namespace, container=NODE,
                timestamps=True, since_seconds=since_s, _preload_content=False,
            )  # fmt: skip
        except NotFound:
            return []
        return [] if answer is None else answer.data.decode(errors="replace").splitlines()

    def _call(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What `call` returns, tried again while the API server does not answer or is overloaded."""
        for delay_s in (*self._delays_s, None):
            try:
                return call(*arguments, **options, _request_timeout=_TIMEOUTS_S)
            except client.ApiException as error:
                if error.status != _TOO_MANY_REQUESTS and error.status < _SERVER_ERROR:
                    return self._refused(what, error)
                trouble, cause = f"{error.status} {error.reason}", error
            except urllib3.exceptions.HTTPError as error:
                trouble, cause = type(error).__name__, error
            if delay_s is None:
                raise UserError(
                    f"The Kubernetes API does not answer ({what}: {trouble}).",
                    where=self._host,
                    remedy="The job continues: run this again to follow it.",
                ) from cause
            self.report(f"The Kubernetes API does not answer ({what}: {trouble}); trying again in {delay_s:g} s")
            time.sleep(delay_s)
        raise AssertionError("unreachable")

    def _refused(self, what: str, error: client.ApiException) -> None:
        """Raises the error that a refusal means; returns for a log whose container has not started."""
        message = _message(error)
        where = f"namespace {self.namespace} at {self._host}"
        if error.status == 404 and what.startswith("create"):
            remedy = "Install Kubeflow Trainer v2 and the namespace (see docs/cluster.md)."
            raise UserError(f"This cluster has no TrainJobs: {message}", where=where, remedy=remedy)
        if error.status == 404:
            raise NotFound(message)
        if error.status == 409:
            raise AlreadyExists(message)
        if error.status in (401, 403):
            verb, _, resource = what.partition(" ")
            group = GROUP if resource == PLURAL else "core"
            raise UserError(
                f"Kubernetes does not allow this account to {what}: {message}",
                where=where,
                remedy=f"Give it a role with the verb {verb!r} on {resource!r} (API group {group}) and bind it.",
            ) from error
        if error.status == 400 and what == "get pods/log":
            return
        raise UserError(
            f"Kubernetes refuses to {what}: {message}", where=where, remedy="Check the settings."
        ) from error


def _message(error: client.ApiException) -> str:
    """The API server's message, without headers."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
