"""The logs of a training job's pods, and whether pods were evicted."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from v2a_dpo.cluster.train_job.api import Cluster

_LAST_LINES = 20
#: Each request starts this long before the last one; the lines' time stamps show which are new.
_OVERLAP_S = 30

#: Why a kubelet or a scheduler ends a pod that did nothing wrong.
_EVICTIONS = {"Evicted", "NodeLost", "NodeShutdown", "Preempted", "Preempting", "Shutdown", "Terminated"}


@dataclass
class _Pod:
    """How far a pod's log has been read, and its last lines."""

    stamp: str = ""
    asked_s: float | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    failed: bool = False
    waits_for: str = ""
    end: str = ""


class PodWatch:
    """The pods of the job named `job`; their new lines go to `cluster.report`."""

    def __init__(self, cluster: Cluster, job: str) -> None:
        self._cluster = cluster
        self._job = job
        self._pods: dict[str, _Pod] = {}
        #: Why the first evicted pod was evicted; empty: none was.
        self.evicted = ""

    def look(self) -> None:
        """Reads the new lines and the state of every pod."""
        for pod in self._cluster.pods(self._job):
            name = str(pod["metadata"]["name"])
            seen = self._pods.setdefault(name, _Pod())
            status = pod.get("status", {})
            seen.failed = status.get("phase") == "Failed"
            seen.end = _end(status) or seen.end
            self.evicted = self.evicted or _disruption(status)
            waits_for = _waits_for(status)
            if waits_for and waits_for != seen.waits_for:
                self._cluster.report(f"{name} waits: {waits_for}")
            seen.waits_for = waits_for
            now_s = time.monotonic()
            since_s = None if seen.asked_s is None else math.ceil(now_s - seen.asked_s) + _OVERLAP_S
            lines = self._cluster.log_lines(name, since_s=since_s)
            if lines:
                seen.asked_s = now_s
            for line in lines:
                stamp, _, text = line.partition(" ")
                if stamp > seen.stamp:
                    seen.stamp = stamp
                    seen.lines.append(text)
                    self._cluster.report(f"{name}: {text}")

    def last_lines(self) -> str:
        """The last lines of the failed pods, or of all if none failed, and how their containers ended."""
        shown = {name: pod for name, pod in self._pods.items() if pod.failed} or self._pods
        ends = {name: [pod.end] if pod.end else [] for name, pod in shown.items()}
        return "\n".join(f"{name}: {line}" for name, pod in shown.items() for line in (*pod.lines, *ends[name]))


def _disruption(status: dict[str, Any]) -> str:
    """Why the pod was evicted; empty: it was not."""
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return str(condition.get("reason", "DisruptionTarget"))
    reason = str(status.get("reason", ""))
    return reason if reason in _EVICTIONS else ""


def _end(status: dict[str, Any]) -> str:
    """How the pod's container failed, such as out of memory; empty: it did not."""
    for container in status.get("containerStatuses", []):
        ended = container.get("state", {}).get("terminated", {})
        if ended.get("exitCode"):
            return f"ended with exit code {ended['exitCode']} ({ended.get('reason', 'Error')})"
    return ""


def _waits_for(status: dict[str, Any]) -> str:
    """Why the pod has not started, such as too few GPUs or an image that cannot be pulled; empty: no reason."""
    reasons = [
        f"{condition.get('reason', '')}: {condition.get('message', '')}"
        for condition in status.get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            reasons.append(f"{waiting.get('reason', '')}: {waiting.get('message', '')}".rstrip(": "))
    return "; ".join(reasons)
