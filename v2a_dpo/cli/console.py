"""Output for people: progress bars on a terminal, plain lines in logs, and errors as one readable paragraph."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from v2a_dpo.errors import UserError

err = Console(stderr=True, highlight=False)


class ProgressBars(AbstractContextManager["ProgressBars"]):
    """Bars with counts, rate and time left for each description, from the first report on; in logs and CI, one line per
    finished loop."""

    def __init__(self) -> None:
        self._live = err.is_terminal and not os.environ.get("CI")
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=err, transient=False)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()
        if kind is KeyboardInterrupt:
            err.print("Stopped. Finished work is kept; run the same command again to continue.")

    def __call__(self, description: str, done: int, total: int) -> None:
        """Moves the bar called `description` to `done` of `total`."""
        if not self._live:
            if done >= total:
                err.print(f"{description}: {done} of {total}")
            return
        self._bars.start()
        if description not in self._tasks:
            self._tasks[description] = self._bars.add_task(description, total=total, rate="")
        task = self._bars.tasks[self._tasks[description]]
        rate = f"{task.finished_speed or task.speed or 0:.1f}/s"
        self._bars.update(task.id, completed=done, total=total, rate=rate)


def show_error(error: UserError) -> None:
    """Prints what went wrong, where, and the remedy, on standard error."""
    body = Text(error.what, style="bold")
    if error.where:
        body.append(f"\nWhere: {error.where}", style="not bold")
    if error.remedy:
        body.append(f"\nRemedy: {error.remedy}", style="not bold green")
    if err.is_terminal:
        err.print(Panel(body, title="v2a-dpo", title_align="left", border_style="red"))
    else:
        print("\n".join(["Error: " + error.what, *body.plain.split("\n")[1:]]), file=sys.stderr)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of text; an empty header is not shown."""
    result = Table(*header, title=title, show_header=any(header))
    for row in rows:
        result.add_row(*row)
    return result


def show(table: Table) -> None:
    """Prints a table on standard output, folded to the terminal's width and whole where there is none."""
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def peak_memory() -> str:
    """The peak memory of this process so far, and of its GPU if it used one."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    text = f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        text += f", of the GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    return text
