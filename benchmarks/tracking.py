"""What sending the curves to MLflow costs the training: the same alignment with and without it, in turns.

    python -m benchmarks.tracking --artifacts artifacts --rounds 5

Needs the artifacts of a finished tiny loop; writes `results/tracking.md`. Runs are interleaved, so that a busy machine slows
both alike; what counts is the training's own time from its first step to its last. The server runs in a process of its own on the same machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from v2a_dpo.config import Params, load_params
from v2a_dpo.stages.align import align
from v2a_dpo.stages.align_live import align_live
from v2a_dpo.stages.layout import Layout

RESULTS = Path(__file__).parent / "results"
_PORT = 5678


def main() -> None:
    """Prints seconds a step of every run, and writes the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--params", default="configs/tiny.yaml")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    params = load_params(arguments.params, [f"align.steps={arguments.steps}", "register.experiment=tracking-benchmark"])
    with tempfile.TemporaryDirectory() as temporary:
        server = _start_server(Path(temporary))
        try:
            _measure(params, Layout(arguments.artifacts), Path(temporary), rounds=arguments.rounds)
        finally:
            server.terminate()
            server.wait()


def _measure(params: Params, at: Layout, folder: Path, *, rounds: int) -> None:
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(rounds + 1):  # the first round warms up
        order = ("without", "with") if number % 2 else ("with", "without")
        for kind in order:
            taken = _train(params, at, folder / f"{kind}-{number}", live=kind == "with")
            print(f"round {number}, {kind} tracking: {1000 * taken:.2f} ms a step", flush=True)
            if number:
                seconds[kind].append(taken)
    without, with_it = (statistics.median(seconds[kind]) for kind in ("without", "with"))
    times = {kind: ", ".join(f"{1000 * taken:.1f}" for taken in found) for kind, found in seconds.items()}
    page = f"""# What live tracking costs the training

{datetime.now(UTC).date().isoformat()}, {os.cpu_count()} cores of {platform.machine()}, the server on the same machine

| tracking | ms a step, median of {rounds} runs of {params.align.steps} steps | the runs |
| --- | ---: | --- |
| without | {1000 * without:.1f} | {times["without"]} |
| with | {1000 * with_it:.1f} ({100 * (with_it / without - 1):+.1f}%) | {times["with"]} |

Runs in turns after one of each to warm up, the tiny profile. Made by `python -m benchmarks.tracking --steps {params.align.steps} --rounds {rounds}`.
"""
    (RESULTS / "tracking.md").write_text(page, encoding="utf-8")
    print(page)


def _train(params: Params, at: Layout, folder: Path, *, live: bool) -> float:
    """Seconds a step between the end of the first step and the end of the last."""
    ends: list[float] = []

    def progress(description: str, done: int, total: int) -> None:
        if description == "Aligning":
            ends.append(time.perf_counter())

    mined = ("annotation", "preference")
    stage = align_live if live else align
    stage(
        params,
        pairs=at.pairs,
        candidates=[at.candidates(split) for split in mined],
        conditions=[at.conditions(split) for split in mined],
        generator=at.base,
        output=str(folder / "aligned"),
        log=str(folder / "alignment"),
        progress=progress,
    )
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def _start_server(folder: Path) -> subprocess.Popen[bytes]:
    """A server on SQLite; MLFLOW_TRACKING_URI names it from now on."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(_PORT), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen([*command, *stores], env=environment, stdout=log, stderr=subprocess.STDOUT)
    os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{_PORT}"
    while True:
        try:
            urllib.request.urlopen(f"{os.environ['MLFLOW_TRACKING_URI']}/health")
            return server
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
