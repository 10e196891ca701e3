"""KFP's local runner: every task a process of its own, started afresh or, cheaper, by a server that has torch
loaded."""

from __future__ import annotations

import builtins
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kfp import local
from kfp.dsl import PipelineTask
from kfp.local import subprocess_task_handler

from components.definition import Images
from pipelines.placement import Placement
from pipelines.presets import CPU, Retry
from tests import forked

#: The preset for development, with retries that do not wait.
LOCAL = Placement(replace(CPU, retry=Retry(times=1, backoff_s=0)), Images("registry.example/python", "test"))

#: Found by every fresh Python through PYTHONPATH: kills the one that runs a component, once, inside a function.
_KILLER = """
import os, signal, sys, threading, time

def kill_within(name, marker):
    main = threading.main_thread().ident
    while True:
        frame = sys._current_frames().get(main)
        while frame is not None and frame.f_code.co_qualname != name:
            frame = frame.f_back
        if frame is not None:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:  # another worker was faster
                return
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.002)

function, name, marker = {function!r}, {name!r}, {marker!r}
arguments = sys.orig_argv
if "kfp.dsl.executor_main" in arguments and function in arguments and not os.path.exists(marker):
    threading.Thread(target=kill_within, args=(name, marker), daemon=True).start()
"""


def run(pipeline: Callable[..., PipelineTask], *, folder: Path, **arguments: object) -> dict[str, Any]:
    """The outputs of a pipeline that is run here, with KFP's own files under `folder`.

    Settings for Kubernetes mean nothing here, and KFP warns of each of them.
    """
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"))
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(sys, "executable", shlex.quote(sys.executable))  # KFP puts it into a shell command as it is
        # KFP replaces `print` in each of its threads, and the last one to end may leave its own behind.
        patch.setattr(builtins, "print", print)
        return dict(pipeline(**arguments).outputs)


def plant_killer(folder: Path, *, component: str, within: str) -> Path:
    """Writes what kills a task of `component` inside the function `within` (a qualified name) into `folder`, for
    PYTHONPATH.

    Returns the file that appears when a task was killed.
    """
    marker = folder / "killed"
    (folder / "sitecustomize.py").write_text(
        _KILLER.format(function=component, name=within, marker=str(marker)), encoding="utf-8"
    )
    return marker


@contextmanager
def torch_loaded_once(log: Path) -> Iterator[None]:
    """While the block runs, tasks are forked from a process that has torch loaded; what they print goes to `log`.

    A task is then still a process of its own that runs KFP's executor on the component's source, as in a pod.
    """

    def start(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        _shell, _options, _script, source, *arguments = full_command
        environment = {**os.environ, **(env_vars or {}), "_KFP_RUNTIME": "true"}
        with tempfile.TemporaryDirectory() as folder:
            module = Path(folder) / "ephemeral_component.py"
            module.write_text(source, encoding="utf-8")
            task = forked.start(
                "kfp.dsl.executor_main",
                ["--component_module_path", str(module), *arguments],
                output=log,
                environment=environment,
            )
            task.join()
        return int(task.exitcode or 0)

    real = subprocess_task_handler.run_local_subprocess
    subprocess_task_handler.run_local_subprocess = start
    try:
        yield
    finally:
        subprocess_task_handler.run_local_subprocess = real
