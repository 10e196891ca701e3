"""KFP's local runner, with every task a process of its own, and a way to kill one of them for good."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from kfp import local

from components.definition import Images
from pipelines.placement import Placement
from pipelines.presets import CPU, Retry

#: The preset for development, with retries that do not wait.
LOCAL = Placement(replace(CPU, retry=Retry(times=1, backoff_s=0)), Images("registry.example/python", "test"))

#: Found by every Python process through PYTHONPATH: kills the one that runs FUNCTION, once, inside the function FRAME.
_KILLER = """
import os, signal, sys, threading, time

def kill_within(name, marker):
    main = threading.main_thread().ident
    while True:
        frame = sys._current_frames().get(main)
        while frame is not None and frame.f_code.co_qualname != name:
            frame = frame.f_back
        if frame is not None:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.002)

function, name, marker = {function!r}, {name!r}, {marker!r}
arguments = sys.orig_argv
if "kfp.dsl.executor_main" in arguments and function in arguments and not os.path.exists(marker):
    threading.Thread(target=kill_within, args=(name, marker), daemon=True).start()
"""


def start_runner(folder: Path) -> None:
    """Lets pipelines that are called run here, with KFP's own files under `folder`."""
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"))


def run(pipeline, **arguments) -> None:
    """Runs a pipeline; settings for Kubernetes mean nothing here, and KFP warns of each of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline(**arguments)


def plant_killer(folder: Path, *, component: str, within: str) -> Path:
    """Writes what kills a task of `component` inside the function `within` (a qualified name) into `folder`, for PYTHONPATH.

    Returns the file that appears when a task was killed.
    """
    marker = folder / "killed"
    (folder / "sitecustomize.py").write_text(
        _KILLER.format(function=component, name=within, marker=str(marker)), encoding="utf-8"
    )
    return marker
