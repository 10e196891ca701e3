"""What the pods of a training job say, and whether they were taken away."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from v2a_dpo.cluster.train_job.api import Cluster

_LAST_LINES = 20
#: Lines are asked for again from a little before the last time; their own time stamps tell which are new.
_OVERLAP_S = 30

#: Why a kubelet or a scheduler ends a pod that did nothing wrong.
_TAKEN_AWAY = {"Evicted", "NodeLost", "NodeShutdown", "Preempted", "Preempting", "Shutdown", "Terminated"}


@dataclass
class _Pod:
    """How far a pod's log was read, and its last lines."""

    stamp: str = ""
    asked_s: float | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    failed: bool = False
    waits_for: str = ""
    end: str = ""


class PodWatch:
    """The pods of the job of that name, as they come and go; their new lines go to `say`."""

    def __init__(self, cluster: Cluster, job: str, *, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._job = job
        self._say = say
        self._pods: dict[str, _Pod] = {}
        #: Why the first pod that was taken away was, or an empty text.
        self.taken_away = ""

    def look(self) -> None:
        """Reads what is new."""
        for pod in self._cluster.pods(self._job):
            name = str(pod["metadata"]["name"])
            known = self._pods.setdefault(name, _Pod())
            status = pod.get("status", {})
            known.failed = status.get("phase") == "Failed"
            known.end = _end(status) or known.end
            self.taken_away = self.taken_away or _disruption(status)
            waits_for = _waits_for(status)
            if waits_for and waits_for != known.waits_for:
                self._say(f"{name} waits: {waits_for}")
            known.waits_for = waits_for
            now_s = time.monotonic()
            since_s = None if known.asked_s is None else math.ceil(now_s - known.asked_s) + _OVERLAP_S
            lines = self._cluster.log_lines(name, since_s=since_s)
            if lines:
                known.asked_s = now_s
            for line in lines:
                stamp, _, text = line.partition(" ")
                if stamp > known.stamp:
                    known.stamp = stamp
                    known.lines.append(text)
                    self._say(f"{name}: {text}")

    def last_lines(self) -> str:
        """The last lines of the pods that failed, or of all if none says so, and how their containers ended."""
        chosen = {name: pod for name, pod in self._pods.items() if pod.failed} or self._pods
        ends = {name: [pod.end] if pod.end else [] for name, pod in chosen.items()}
        return "\n".join(f"{name}: {line}" for name, pod in chosen.items() for line in (*pod.lines, *ends[name]))


def _disruption(status: dict[str, Any]) -> str:
    """Why the pod was taken away, or an empty text when it was not."""
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return str(condition.get("reason", "DisruptionTarget"))
    reason = str(status.get("reason", ""))
    return reason if reason in _TAKEN_AWAY else ""


def _end(status: dict[str, Any]) -> str:
    """How the pod's container ended in failure, such as by a lack of memory, or an empty text."""
    for container in status.get("containerStatuses", []):
        ended = container.get("state", {}).get("terminated", {})
        if ended.get("exitCode"):
            return f"ended with exit code {ended['exitCode']} ({ended.get('reason', 'Error')})"
    return ""


def _waits_for(status: dict[str, Any]) -> str:
    """What keeps the pod from starting, such as a lack of GPUs or an image that cannot be pulled, or an empty text."""
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
