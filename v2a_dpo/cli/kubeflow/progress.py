"""A run on the cluster as a table of its tasks, updated while waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from v2a_dpo.cli.console import err

if TYPE_CHECKING:
    from v2a_dpo.cluster.client import PipelineClient
    from v2a_dpo.cluster.run_status import RunStatus, TaskStatus

_COLOURS = {"SUCCEEDED": "green", "RUNNING": "cyan", "FAILED": "bold red", "CANCELED": "yellow", "WAITING": "dim"}
#: Seconds for which a server that does not answer is tried again while waiting.
_PATIENCE_S = 600


def follow(
    client: PipelineClient,
    run_id: str,
    *,
    poll_s: float,
    patience_s: float = _PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> RunStatus:
    """The status of a run once it is finished; shows its tasks until then.

    A server that does not answer is tried again every `poll_s` seconds and more, for `patience_s` seconds in total.
    """
    live = Live(console=err, refresh_per_second=2) if err.is_terminal and not os.environ.get("CI") else None
    seen: dict[str, str] = {}
    if live is not None:
        live.start()
    try:
        while True:
            status = _ask(client, run_id, poll_s=poll_s, patience_s=patience_s, sleep=sleep)
            if live is not None:
                live.update(task_table(status))
            else:
                _print_changes(status, seen)
            if status.is_finished:
                return status
            sleep(poll_s)
    finally:
        if live is not None:
            live.stop()


def _ask(
    client: PipelineClient, run_id: str, *, poll_s: float, patience_s: float, sleep: Callable[[float], None]
) -> RunStatus:
    """The run's status, tried again while the server does not answer; an expired token is read again once."""
    from v2a_dpo.cluster.errors import NotLoggedInError, UnreachableError

    waited, pause, renewed = 0.0, poll_s, False
    while True:
        try:
            return client.status(run_id)
        except UnreachableError:
            if waited >= patience_s:
                raise
            err.print(f"The server does not answer; trying again in {pause:g} s.")
            sleep(pause)
            waited, pause = waited + pause, min(2 * pause, 60.0)
        except NotLoggedInError:
            if renewed:
                raise
            client.renew_token()
            renewed = True


def _print_changes(status: RunStatus, seen: dict[str, str]) -> None:
    """One line for each task whose state or count changed since `seen`."""
    for task in status.tasks:
        line = f"{task.name}: {task.state.lower()}{_counts(task)}"
        if seen.get(task.name) != line and not (task.state == "WAITING" and task.name not in seen):
            err.print(line)
        seen[task.name] = line


def task_table(status: RunStatus) -> Table:
    """The tasks of a run: state, finished and started number of a fan-out, start and duration."""
    now = datetime.now(UTC)
    table = Table("Task", "State", "Finished", "Started (UTC)", "Took", title=f"{status.name}: {status.state}")
    for task in status.tasks:
        colour = _COLOURS.get(task.state, "")
        start = "" if task.start is None else task.start.astimezone(UTC).strftime("%m-%d %H:%M:%S")
        counts = f"{task.finished} of {task.started}" if task.started else ""
        table.add_row(task.name, task.state, counts, start, duration(task.duration_s(now=now)), style=colour)
    return table


def duration(seconds: float | None) -> str:
    """Seconds as `1:02:03`; empty for None."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _counts(task: TaskStatus) -> str:
    return f", {task.finished} of {task.started}" if task.started > 1 else ""
