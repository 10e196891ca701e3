"""Programs that are forked from a process that has torch and other packages loaded.

Each is a process of its own, as one that is started afresh, and imports this project's modules itself: the repository's
or those of a changed copy, as its PYTHONPATH says. But the seconds that a fresh interpreter needs to load torch are
spent once.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

_PACKAGES = [
    "accelerate", "torch._dynamo", "torchaudio", "safetensors.torch", "scipy.signal", "pandas", "pyarrow.parquet",
    "av", "soundfile", "typer", "rich.progress", "s3fs", "boto3", "mlflow.store.tracking.sqlalchemy_store",
]  # fmt: skip
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(_PACKAGES)


def load_too(*packages: str) -> None:
    """Has more packages loaded, if the process that programs are forked from has not started yet."""
    _PACKAGES.extend(packages)
    CONTEXT.set_forkserver_preload(_PACKAGES)


def start(
    program: str,
    arguments: Sequence[str],
    *,
    output: Path,
    errors: Path | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Starts `python -m program arguments`, in a session of its own; `program` may also be the path of a file.

    What it prints is added to the file `output`, its messages to `errors`, if there is one. Without `folder` and
    `environment` it has the caller's.
    """
    place = (str(folder or Path.cwd()), dict(environment or os.environ))
    process = CONTEXT.Process(target=_run, args=(program, list(arguments), str(output), str(errors or output), *place))
    process.start()
    return process


def run(
    program: str,
    *arguments: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> CompletedProcess[str]:
    """What the program prints, its messages, and its exit code."""
    with tempfile.TemporaryDirectory() as printed:
        output, errors = Path(printed, "output"), Path(printed, "errors")
        process = start(program, arguments, output=output, errors=errors, folder=folder, environment=environment)
        process.join()
        return CompletedProcess(
            [program, *arguments], process.exitcode, stdout=output.read_text(), stderr=errors.read_text()
        )


def kill(process: BaseProcess) -> None:
    """Kills the process and those it started."""
    if process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _run(
    program: str, arguments: list[str], output: str, errors: str, folder: str, environment: dict[str, str]
) -> None:
    gc.freeze()  # what the packages hold is not searched for garbage
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [program, *arguments]
    is_file = program.endswith(".py")
    first = str(Path(program).parent) if is_file else folder
    sys.path[:0] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if is_file:
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
