from __future__ import annotations

import os
import signal

import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.worker_pool import WorkerDied, WorkerPool


def divide(number: int) -> float:
    if number == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 / number


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_jobs(workers):
    with WorkerPool(divide, workers=workers) as pool:
        assert list(pool.map(iter([1, 2, 4, 5]))) == [10, 5, 2.5, 2]


def test_a_job_that_kills_its_worker_costs_only_its_own_result():
    with WorkerPool(divide, workers=2) as pool:
        results = list(pool.map([1, 2, 7, 4, 5]))
        assert [type(result) for result in results] == [float, float, WorkerDied, float, float]
        assert results[:2] + results[3:] == [10, 5, 2.5, 2]
        assert list(pool.map([10])) == [1]


def test_a_worker_that_the_system_kills_is_not_the_fault_of_its_job():
    with WorkerPool(divide, workers=2) as pool:
        with pytest.raises(UserError, match="memory"):
            list(pool.map([1, 9, 4]))
        assert list(pool.map([10])) == [1]


def test_an_error_in_a_job_is_raised():
    with WorkerPool(divide, workers=1) as pool, pytest.raises(ZeroDivisionError):
        list(pool.map([0]))
