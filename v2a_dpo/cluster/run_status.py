"""The state of a run and its tasks, read from the server's answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from v2a_dpo.cluster.submission import task_names

#: Final states. (The client's own waiting never ends for a cancelled run.)
FINISHED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
#: Where the tasks of one name disagree, the first of these that any of them has is shown.
_BY_URGENCY = ("FAILED", "CANCELED", "CANCELING", "RUNNING", "PENDING", "PAUSED", "SUCCEEDED", "SKIPPED")
WAITING = "WAITING"


@dataclass(frozen=True)
class TaskStatus:
    """All tasks of one name: one, or as many as the fan-out has."""

    name: str
    state: str
    #: Number of started tasks, and how many of them are finished.
    started: int = 0
    finished: int = 0
    start: datetime | None = None
    end: datetime | None = None

    def duration_s(self, *, now: datetime) -> float | None:
        """Seconds from the first start to the last end, or until `now`; None before the start."""
        return None if self.start is None else ((self.end or now) - self.start).total_seconds()


@dataclass(frozen=True)
class RunStatus:
    """A run and its tasks at one moment."""

    run_id: str
    name: str
    state: str
    error: str
    created: datetime | None
    finished: datetime | None
    tasks: tuple[TaskStatus, ...]

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self.state in FINISHED

    @property
    def failed_tasks(self) -> list[str]:
        """The names of tasks that failed."""
        return [task.name for task in self.tasks if task.state == "FAILED"]


def run_status(run: Any, spec: Mapping[str, Any] | None = None) -> RunStatus:
    """The status of `run` (a V2beta1Run); `spec`, the pipeline's specification, names its tasks in their order.

    The server lists every node of the workflow, also drivers, loops and containers (all called `executor`). A task is
    the node with its name in the pipeline; those not listed yet are WAITING, or SKIPPED once the run is over.
    """
    state = str(run.state or "PENDING")
    details = (run.run_details.task_details if run.run_details else None) or []
    names = [] if spec is None else task_names(spec)
    absent = "SKIPPED" if state in FINISHED else WAITING
    tasks = tuple(_merged(name, [node for node in details if _base_name(node) == name], absent) for name in names)
    return RunStatus(
        run_id=run.run_id,
        name=run.display_name or "",
        state=state,
        error=(run.error.message or "") if run.error else "",
        created=_time(run.created_at),
        finished=_time(run.finished_at),
        tasks=tasks,
    )


def _base_name(node: Any) -> str:
    """A node's name without the number of an iteration or an attempt, as in `score(3)`."""
    return str(node.display_name or "").partition("(")[0]


def _merged(name: str, nodes: Sequence[Any], absent: str) -> TaskStatus:
    if not nodes:
        return TaskStatus(name, absent)
    states = Counter(str(node.state or "PENDING") for node in nodes)
    state = next((each for each in _BY_URGENCY if states[each]), "PENDING")
    starts = [start for node in nodes if (start := _time(node.start_time))]
    ends = [end for node in nodes if (end := _time(node.end_time))]
    finished = sum(states[each] for each in FINISHED)
    over = finished == len(nodes) and ends
    return TaskStatus(name, state, len(nodes), finished, min(starts, default=None), max(ends) if over else None)


def _time(moment: datetime | None) -> datetime | None:
    """The moment, or None: the server gives the beginning of 1970 for what has not happened yet."""
    if moment is None or moment.timestamp() <= 0:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
