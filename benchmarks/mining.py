"""How long `mine` takes on a million candidates, and how much memory, beside a loop over rows.

    python -m benchmarks.mining [--candidates 1000000] [--output benchmarks/results]

Makes a table of random scores, runs the stage in a process of its own, and writes `mining.json` and `mining.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.manifest import software_versions
from v2a_dpo.artifacts.schema import SCORE_NAMES, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params, Threshold
from v2a_dpo.preference.audioscore import BAD, GOOD, METRICS_FILE, AudioScore
from v2a_dpo.stages.mine import mine

CANDIDATES_PER_CLIP, CLIPS_PER_SHARD = 5, 256
NAIVE_CANDIDATES = 20_000
#: What mining asks of an AudioScore before it uses it: these scores are random, and so is the classifier.
SCORERS = "random"
MEASURES = {"inputs": {"scorers": SCORERS}, "validation": {"ratings": 0, "accuracy": 1.0, "majority_accuracy": 0.0}}


def make_classifier() -> AudioScore:
    """A classifier of the paper's size with random weights."""
    draw = np.random.default_rng(0).standard_normal
    shapes = ((32, 5), (32,), (3, 32), (3,))
    weights = (draw(shape).astype(np.float32) for shape in shapes)
    return AudioScore(np.zeros(5, np.float32), np.ones(5, np.float32), *weights)


def make_scores(folder: str, candidates: int) -> None:
    """Writes a SCORES data set of that many candidates; CLAP is missing for a tenth of them and PESQ for 99 of 100."""

    def shard(index: int) -> ShardContent:
        random = np.random.default_rng(index)
        clips = range(index * CLIPS_PER_SHARD, min((index + 1) * CLIPS_PER_SHARD, candidates // CANDIDATES_PER_CLIP))
        rows = len(clips) * CANDIDATES_PER_CLIP
        absent = {"clap": random.random(rows) < 0.1, "pesq": random.random(rows) < 0.99}
        columns = {
            "clip_id": np.repeat([f"{clip:011d}_000030" for clip in clips], CANDIDATES_PER_CLIP),
            "sample": np.tile(np.arange(CANDIDATES_PER_CLIP, dtype=np.int16), len(clips)),
            **{
                name: pa.array(random.standard_normal(rows), pa.float32(), mask=absent.get(name))
                for name in SCORE_NAMES
            },
            "missing": pa.nulls(rows, pa.string()),
        }
        return ShardContent(pa.table(columns))

    num_shards = -(-candidates // (CLIPS_PER_SHARD * CANDIDATES_PER_CLIP))
    tasks = [ShardTask(index, [str(candidates)]) for index in range(num_shards)]
    build_dataset(
        folder,
        SCORES,
        parameters={"benchmark": "mining"},
        inputs={"scorers": SCORERS},
        tasks=tasks,
        code=NO_CODE,
        make=shard,
    )


def run_stage(folder: Path) -> dict[str, float]:
    """Seconds and peak resident memory (MiB) of the stage, start of the interpreter included, in a process of its
    own."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mining", "--stage", str(folder)], check=True, capture_output=True, text=True
    )
    return {**json.loads(done.stdout), "process_seconds": time.perf_counter() - started}


def stage(folder: Path) -> dict[str, float]:
    """What `run_stage` starts."""
    params = Params()
    params = params.model_copy(update={"mine": params.mine.model_copy(update={"threshold": Threshold(quantile=0.19)})})
    started = time.perf_counter()
    names = {name: str(folder / name) for name in ("scores", "audioscore")}
    summary = mine(params, **names, output=str(folder / "pairs"))
    seconds = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak_mib, "pairs": sum(summary.pairs.values())}


def naive_loop(folder: Path) -> dict[str, float]:
    """Seconds of a loop that scores and compares row by row, on the first candidates; table reading left out."""
    table = Dataset.open(str(folder / "scores"), SCORES).table().slice(0, NAIVE_CANDIDATES)
    classifier = AudioScore.load(str(folder / "audioscore"))
    started = time.perf_counter()
    clips: dict[str, list[tuple[int, np.ndarray]]] = {}
    for row in table.to_pylist():
        scores = np.array([[np.nan if row[name] is None else row[name] for name in SCORE_NAMES]], np.float32)
        clips.setdefault(row["clip_id"], []).append((row["sample"], classifier.probabilities(scores)[0]))
    pairs = 0
    for candidates in clips.values():
        winner = max(candidates, key=lambda item: item[1][GOOD])
        loser = max(candidates, key=lambda item: item[1][BAD])
        pairs += winner[0] != loser[0]
    seconds = time.perf_counter() - started
    return {"candidates": table.num_rows, "seconds": seconds, "pairs": pairs}


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a short page."""
    stage_, naive = result["stage"], result["naive_loop"]
    rate = result["candidates"] / stage_["seconds"]
    naive_rate = naive["candidates"] / naive["seconds"]
    return f"""# Mining {result["candidates"]:,} candidates

{result["date"]}, {result["hardware"]}, {", ".join(f"{name} {version}" for name, version in result["software"].items())}

| way | candidates | seconds | candidates a second | peak memory |
| --- | ---: | ---: | ---: | ---: |
| `mine` (shard by shard, vectorised, pairs written) | {result["candidates"]:,} | {stage_["seconds"]:.1f} | \
{rate:,.0f} | {stage_["peak_mib"]:.0f} MiB |
| loop over rows (in memory, nothing written) | {naive["candidates"]:,} | {naive["seconds"]:.1f} | {naive_rate:,.0f} | |

Mining is {rate / naive_rate:.0f} times as fast as the loop. It found {stage_["pairs"]:,} pairs.
Made by `python -m benchmarks.mining --candidates {result["candidates"]}`.
"""


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(stage(options.stage), allow_nan=False))
        return
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_scores(str(folder / "scores"), options.candidates)
        make_classifier().save(
            str(folder / "audioscore"), {METRICS_FILE: json.dumps(MEASURES, allow_nan=False).encode()}
        )
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": f"{os.cpu_count()} x {platform.machine()}",
            "software": {**software_versions(), "python": platform.python_version(), "numpy": np.__version__},
            "candidates": options.candidates,
            "stage": run_stage(folder),
            "naive_loop": naive_loop(folder),
        }
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "mining.json", result)
    (options.output / "mining.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
