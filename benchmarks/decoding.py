"""Five candidates' latents to sound on a CPU, all at once and in the pieces the engine takes: time and memory.

    python -m benchmarks.decoding [--variant small_16k] [--seconds 2 4 8] [--rounds 2] [--output benchmarks/results]

MMAudio's codec at full size with random weights on one thread; every figure from a process of its own, in turns. The
time is the processor's, so that other work on the machine does not count, and the memory is what decoding takes at its
peak beyond the loaded codec.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.generation import make_model
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.manifest import software_versions
from v2a_dpo.generation import sampler as engine
from v2a_dpo.generation.sampler import CandidateSampler, SamplingSettings
from v2a_dpo.models.mmaudio.config import VARIANTS

CANDIDATES = 5
WAYS = ("all at once", "the engine's pieces")
PRECISIONS = ("float32", "bfloat16")


def memory_mib(field: str) -> float:
    """A figure of this process's memory: `VmRSS` now, `VmHWM` the most since the mark was last taken off."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def decode(options: argparse.Namespace) -> dict[str, float]:
    """What one process measures: CPU seconds a candidate and MiB; a short clip first, so that nothing is set up in the
    clock."""
    torch.set_num_threads(1)
    model = make_model(options.variant, torch.device("cpu"))
    settings = SamplingSettings(CANDIDATES, steps=1, guidance_scale=1.0, seed=0)
    precision = getattr(torch, options.precision)
    sampler = CandidateSampler(model, settings, duration_s=options.seconds[0], precision=precision)
    if options.way == "all at once":
        engine._DECODED_STEPS = CANDIDATES * sampler.latent_shape[0]
    sampler.audio(torch.randn(1, 1, 8, sampler.latent_shape[1]))
    latents = torch.randn(1, CANDIDATES, *sampler.latent_shape)
    Path("/proc/self/clear_refs").write_text("5")
    before, started = memory_mib("VmRSS"), time.process_time()
    sampler.audio(latents)
    return {
        "seconds": (time.process_time() - started) / CANDIDATES,
        "peak_mib": memory_mib("VmHWM") - before,
        "steps": sampler.latent_shape[0],
    }


def in_turns(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The means of all rounds; the order of the ways changes from round to round."""
    cases = [(seconds, precision) for seconds in options.seconds for precision in PRECISIONS]
    found: dict[tuple[float, str, str], list[dict[str, float]]] = {}
    for number in range(options.rounds):
        for seconds, precision in cases:
            for way in WAYS if number % 2 else WAYS[::-1]:
                call = [sys.executable, "-m", "benchmarks.decoding", "--variant", options.variant]
                call += ["--seconds", str(seconds), "--precision", precision, "--way", way]
                done = subprocess.run(call, check=True, capture_output=True, text=True)
                found.setdefault((seconds, precision, way), []).append(json.loads(done.stdout))
    return [
        {"clip_seconds": seconds, "precision": precision, "way": way}
        | {name: mean(run[name] for run in runs) for name in runs[0]}
        for (seconds, precision, way), runs in sorted(found.items())
    ]


def markdown(result: dict[str, Any]) -> str:
    """The result as a short page."""
    lines = [
        f"| {row['clip_seconds']:g} | {row['steps']:.0f} | {row['precision']} | {row['way']} | {row['seconds']:.2f} | "
        f"{row['peak_mib']:.0f} |"
        for row in result["runs"]
    ]
    table = "\n".join(lines)
    seconds = " ".join(f"{second:g}" for second in sorted({row["clip_seconds"] for row in result["runs"]}))
    return f"""# Decoding {CANDIDATES} candidates with the codec of {result["variant"]} on a CPU

{result["date"]}, one thread of {result["hardware"]},
{", ".join(f"{name} {version}" for name, version in result["software"].items())}

| clip, s | latent steps | precision | way | CPU seconds a candidate | memory, MiB |
| ---: | ---: | --- | --- | ---: | ---: |
{table}

Means of {result["rounds"]} processes each, in turns. On a CPU the engine decodes at least one candidate of a clip at
once, and more while they have {result["limit"]} latent steps together at the most. Memory is the peak beyond the
loaded codec.
Made by `python -m benchmarks.decoding --variant {result["variant"]} --seconds {seconds} --rounds {result["rounds"]}`.
"""


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=list(VARIANTS), default="small_16k")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 4.0, 8.0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(decode(options), allow_nan=False))
        return
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": f"{os.cpu_count()} x {platform.machine()}",
        "software": {**software_versions(), "python": platform.python_version(), "torch": torch.__version__},
        "variant": options.variant,
        "rounds": options.rounds,
        "limit": engine._DECODED_STEPS,
        "runs": in_turns(options),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "decoding.json", result)
    (options.output / "decoding.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
