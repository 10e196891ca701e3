"""What sending the curves to MLflow costs the training: the same alignment without it, with it, and with a server that
is away.

    python -m benchmarks.tracking --artifacts artifacts --rounds 8

Needs the artifacts of a finished tiny loop; writes `results/tracking.md`. The three take turns, so that a busy machine
slows all alike; what counts is the training's own time from its first step to its last, in which the sender starts,
too. On a machine that others share this scatters more than what is looked for, so the kernel is asked as well how long
the training's threads were ready to run and had no core. The server runs on the same machine.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.config import Params
from v2a_dpo.params import load_params
from v2a_dpo.stages.align import align

RESULTS = Path(__file__).parent / "results"
KINDS = (WITHOUT, WITH, AWAY) = ("without", "with", "with, the server away")
_PORT, _NOBODY = 5678, 5679


def main() -> None:
    """Prints the time a step of every run takes, and writes the means and how they compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--params", default="configs/tiny.yaml")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    params = load_params(arguments.params, [f"align.steps={arguments.steps}", "registry.experiment=tracking-benchmark"])
    with tempfile.TemporaryDirectory() as temporary:
        server = _start_server(Path(temporary))
        try:
            layout = Layout(arguments.artifacts)
            _measure(params, layout, Path(temporary), psutil.Process(server.pid), rounds=arguments.rounds)
        finally:
            server.terminate()
            server.wait()


@dataclass(frozen=True)
class _Run:
    """One alignment: seconds a step, and seconds a step that its threads, added up, waited for a core."""

    step_s: float
    waited_s: float


def _measure(params: Params, layout: Layout, folder: Path, server: psutil.Process, *, rounds: int) -> None:
    runs: dict[str, list[_Run]] = {kind: [] for kind in KINDS}
    server_seconds: list[float] = []
    for number in range(rounds + 1):  # the first round warms up
        for kind in (*KINDS[number % 3 :], *KINDS[: number % 3]):
            before = _processor_seconds(server)
            run = _train(params, layout, folder / f"{KINDS.index(kind)}-{number}", kind=kind)
            used = _processor_seconds(server) - before
            print(f"round {number}, tracking {kind}: {1000 * run.step_s:.1f} ms a step, "
                  f"waited {1000 * run.waited_s:.2f} ms", flush=True)  # fmt: skip
            if number:
                runs[kind].append(run)
                server_seconds += [used / params.align.steps] if kind == WITH else []
    rows = [_row(kind, runs[kind], runs[WITHOUT]) for kind in KINDS]
    page = f"""# What live tracking costs the training

{datetime.now(UTC).date().isoformat()}, {os.cpu_count()} cores of {platform.machine()}, the server on the same machine

| tracking | ms a step, mean of {rounds} runs of {params.align.steps} steps | against the run without in the same \
round, mean ± standard error | threads waited for a core, ms a step | more than without, of a step | the runs, \
ms a step |
| --- | ---: | ---: | ---: | ---: | --- |
{chr(10).join(rows)}

The waiting is added up over the training's threads: waiting lengthens a step by its increase at the most. What sharing
caches and memory costs is in the measured times alone. The server used
{1000 * statistics.mean(server_seconds):.1f} ms of processor time a step, its part in starting and ending a run
included. Runs in turns after one of each to warm up, the tiny profile.
Made by `python -m benchmarks.tracking --steps {params.align.steps} --rounds {rounds}`.
"""
    (RESULTS / "tracking.md").write_text(page, encoding="utf-8")
    print(page)


def _row(kind: str, runs: list[_Run], without: list[_Run]) -> str:
    slower = [100 * (run.step_s / plain.step_s - 1) for run, plain in zip(runs, without, strict=True)]
    error = statistics.stdev(slower) / math.sqrt(len(slower))
    step, plain_step = (statistics.mean(run.step_s for run in some) for some in (runs, without))
    waited, plain_waited = (statistics.mean(run.waited_s for run in some) for some in (runs, without))
    compared = "" if kind == WITHOUT else f"{statistics.mean(slower):+.1f}% ± {error:.1f}"
    more = "" if kind == WITHOUT else f"{100 * (waited - plain_waited) / plain_step:+.1f}%"
    times = ", ".join(f"{1000 * run.step_s:.1f}" for run in runs)
    return f"| {kind} | {1000 * step:.1f} | {compared} | {1000 * waited:.2f} | {more} | {times} |"


def _waited() -> float:
    """Seconds that the threads of this process were ready to run and had no core, so far."""
    statistics_of_threads = [path.read_text().split() for path in Path("/proc/self/task").glob("*/schedstat")]
    return sum(int(waited_ns) for _, waited_ns, _ in statistics_of_threads) / 1e9


def _processor_seconds(server: psutil.Process) -> float:
    """Processor time that the server and its workers have used."""
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _train(params: Params, layout: Layout, folder: Path, *, kind: str) -> _Run:
    """A run between the end of the first step and the end of the last."""
    ends: list[tuple[float, float]] = []

    def progress(description: str, done: int, total: int) -> None:
        if description == "Aligning":
            ends.append((time.perf_counter(), _waited()))

    mined = ("annotation", "preference")
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{_NOBODY if kind == AWAY else _PORT}"
    align(
        params,
        pairs=layout.pairs,
        candidates=[layout.candidates(split) for split in mined],
        conditions=[layout.conditions(split) for split in mined],
        generator=layout.base,
        output=str(folder / "aligned"),
        log=str(folder / "alignment"),
        live=kind != WITHOUT,
        progress=progress,
    )
    step_s, waited_s = ((last - first) / (len(ends) - 1) for first, last in zip(ends[0], ends[-1], strict=True))
    return _Run(step_s, waited_s)


def _start_server(folder: Path) -> subprocess.Popen[bytes]:
    """A server on SQLite that answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(_PORT), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen([*command, *stores], env=environment, stdout=log, stderr=subprocess.STDOUT)
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/health")
            return server
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
