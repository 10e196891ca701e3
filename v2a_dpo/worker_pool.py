"""Worker processes that may die: a job that kills its worker loses its own result, no other."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Generic, TypeVar

from v2a_dpo.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDied(Exception):  # noqa: N818 - an event rather than an error
    """The process that worked on a job ended without an answer: a crash in native code."""


class WorkerPool(Generic[Job, Result]):
    """Applies one importable `function` to jobs in `workers` processes; with 0, in this one.

    The processes start with the first job, anew (`spawn`), since a fork of a process that runs torch's threads may
    hang. They live until the pool is closed.
    """

    def __init__(self, function: Callable[[Job], Result], *, workers: int) -> None:
        self._function = function
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def map(self, jobs: Iterable[Job]) -> Iterator[Result | WorkerDied]:
        """The results in the order of `jobs`, which are read only a little ahead of the results.

        A job whose worker dies is tried once more, alone, and gives WorkerDied if that worker dies too. Raises
        UserError when that one was killed from outside: a full memory is not the job's fault.
        """
        if self._workers == 0:
            yield from map(self._function, jobs)
            return
        waiting = iter(jobs)
        running: deque[tuple[Job, Future[Result]]] = deque()
        while True:
            for job in islice(waiting, 2 * self._workers - len(running)):
                running.append((job, self._submit(job)))
            if not running:
                return
            job, future = running.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                self.close()
                yield self._alone(job)
                for other, done in running:
                    yield done.result() if _succeeded(done) else self._alone(other)
                running.clear()

    def close(self) -> None:
        """Ends the processes."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def __enter__(self) -> WorkerPool[Job, Result]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _submit(self, job: Job) -> Future[Result]:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._workers, mp_context=context)
        try:
            return self._executor.submit(self._function, job)
        except BrokenProcessPool as error:
            # A worker died a moment ago: the caller gets that for this job as for the jobs before.
            failed: Future[Result] = Future()
            failed.set_exception(error)
            return failed

    def _alone(self, job: Job) -> Result | WorkerDied:
        future = self._submit(job)
        processes = multiprocessing.active_children()
        try:
            return future.result()
        except BrokenProcessPool as error:
            self.close()
            if any(process.exitcode == -signal.SIGKILL for process in processes):
                raise UserError(
                    "A worker process was killed from outside, as a system does when its memory is full.",
                    where=f"{self._workers} worker processes",
                    remedy="Use fewer workers, or end other programs that use memory; finished work is kept.",
                ) from error
            return WorkerDied("the process that worked on this ended without an answer")


def _succeeded(future: Future[Result]) -> bool:
    """Whether the job had its result before the pool broke."""
    return future.done() and not future.cancelled() and future.exception() is None
