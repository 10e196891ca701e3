"""A run on the cluster as a table of its tasks, updated while waiting."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from v2a_dpo.cli.console import err

if TYPE_CHECKING:
    from v2a_dpo.cluster.client import PipelineClient
    from v2a_dpo.cluster.run_status import RunStatus

_COLOURS = {"SUCCEEDED": "green", "RUNNING": "cyan", "FAILED": "bold red", "CANCELED": "yellow", "WAITING": "dim"}
#: Seconds for which calls of a server that does not answer are repeated.
_PATIENCE_S = 600


def follow(client: PipelineClient, run_id: str, *, poll_s: float) -> RunStatus:
    """The status of a run once it is finished; shows its tasks until then.

    A server that does not answer is tried again every `poll_s` seconds and more, for ten minutes in total.
    """
    is_live = err.is_terminal and not os.environ.get("CI")
    seen: dict[str, str] = {}
    with Live(console=err, refresh_per_second=2) if is_live else nullcontext() as live:
        while not (status := _ask(client, run_id, poll_s=poll_s)).is_finished:
            _show(status, live, seen)
            time.sleep(poll_s)
        _show(status, live, seen)
        return status


def _ask(client: PipelineClient, run_id: str, *, poll_s: float) -> RunStatus:
    """The run's status, tried again while the server does not answer; an expired token is read again once."""
    from v2a_dpo.cluster.errors import NotLoggedInError, UnreachableError

    waited_s, pause_s, renewed = 0.0, poll_s, False
    while True:
        try:
            return client.status(run_id)
        except UnreachableError:
            if waited_s >= _PATIENCE_S:
                raise
            err.print(f"The server does not answer; trying again in {pause_s:g} s.")
            time.sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, 60.0)
        except NotLoggedInError:
            if renewed:
                raise
            client.renew_token()
            renewed = True


def _show(status: RunStatus, live: Live | None, seen: dict[str, str]) -> None:
    """Updates the live table; without one, prints a line per task whose state or count changed since `seen`."""
    if live is not None:
        live.update(task_table(status))
        return
    for task in status.tasks:
        counts = f", {task.finished} of {task.started}" if task.started > 1 else ""
        line = f"{task.name}: {task.state.lower()}{counts}"
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
