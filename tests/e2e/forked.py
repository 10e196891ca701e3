"""Processes that are forked from one that has torch and the stages loaded.

Each is a process of its own, as one that is started afresh, but the seconds that a fresh interpreter needs to load
torch are spent once.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_STAGES = ("world", "pretrain", "prepare", "generate", "score", "align", "evaluate", "report", "register", "promote")
_LOADED = ("s3fs", "boto3", "pandas", "scipy.signal", "torch._dynamo", "mlflow", "kfp.dsl.executor")
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([*_LOADED, *(f"v2a_dpo.stages.{name}" for name in _STAGES)])


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    output: Path,
    errors: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Starts `python -m module arguments`, in a session of its own.

    What it prints is added to the file `output`, its messages to `errors`, if there is one. Without `environment` it
    has the caller's.
    """
    process = _CONTEXT.Process(
        target=_run_module,
        args=(module, list(arguments), str(output), str(errors or output), dict(environment or os.environ)),
    )
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    """Kills the process and those it started."""
    if process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _run_module(module: str, arguments: list[str], output: str, errors: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
