"""How long the paper's job would take on 1, 8 and 64 GPUs: arithmetic from counted operations, not timings.

    python -m benchmarks.scaling [--utilisation 0.4] [--video-cpu-s 0.75] [--start-s 120] [--write PAGE]

The job is the paper's: 50,000 videos and 5 candidates each for pairs, 2,000 videos for ratings, 12,000 steps of DPO on
8 pairs, and the evaluation of base and aligned model on VGGSound's test split, with MMAudio-L-44.1kHz on clips of 8 s.
A
stage takes the longest of what its GPU, its decoding or PESQ processes and its start need; what a stage moves to and
from S3 is listed beside it. With `--write benchmarks/results/scaling.md` the tables in that page are replaced.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from pipelines.presets import PRESETS, Role

#: TFLOP, two a multiply-add, counted on the networks as published, batch 1.
VELOCITY, DECODING, FEATURES = 0.514, 2.66, 74.0
AUDIO_SCORES, VIDEO_SCORES = 0.55, 3.0
FORWARD, FORWARD_AND_BACKWARD = 0.528, 1.583
STEPS, CANDIDATES = 25, 5
CANDIDATE = 2 * STEPS * VELOCITY + DECODING
#: Seconds of one core to judge 8 s of sound by PESQ, measured.
PESQ_CPU_S = 0.094
#: Bytes: an average clip of VGGSound, a clip's conditions in single precision, and 8 s of 44.1 kHz in 16 bits, before
#: FLAC makes it smaller, with the latents in half precision.
VIDEO_BYTES, CONDITIONS_BYTES, SOUND_BYTES = 1_680_000, 1_167_360, 733_600
VIDEOS, TEST_VIDEOS = 52_000, 15_221
DPO_STEPS, PAIRS = 12_000, 8
#: A task is cut so that it stays below this, well inside the presets' time limits.
LONGEST_TASK_S = 4 * 3600.0
#: Clips a shard for each number of GPUs: smaller ones where there are many, so that every GPU gets its share.
CLIPS_PER_SHARD = {1: 256, 8: 256, 64: 64}


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: its dense bfloat16 peak in TFLOP/s, seconds of AdamW on 1.03e9 weights a step, and our preset for
    it."""

    name: str
    peak: float
    optimizer_s: float
    preset: str


@dataclass(frozen=True)
class Assumptions:
    """What is assumed, not counted: the share of the peak that is reached, a video's decoding, and the start of a
    pod."""

    utilisation: float = 0.4
    video_cpu_s: float = 0.75
    start_s: float = 120.0


@dataclass(frozen=True)
class Stage:
    """Work for each clip of a fan-out."""

    name: str
    role: Role
    clips: int
    tflop: float
    cpu_s: float
    bytes_moved: int


@dataclass(frozen=True)
class Plan:
    """A stage on some GPUs: shards a task, tasks, wall clock, what limits it, and what it asks of S3."""

    stage: str
    shards_per_task: int
    tasks: int
    wall_s: float
    limit: str
    s3_gbit_s: float


GPUS = (Gpu("A100", 312.0, 0.017, "gpu"), Gpu("H100", 989.0, 0.010, "gpu-large"))


def stages(assumptions: Assumptions) -> list[Stage]:
    """The stages that are fanned out over shards of clips."""
    cpu, sounds = assumptions.video_cpu_s, CANDIDATES
    score = VIDEO_SCORES + sounds * AUDIO_SCORES
    prepared = VIDEO_BYTES + CONDITIONS_BYTES
    return [
        Stage("prepare", "preparation", VIDEOS, FEATURES, cpu, prepared),
        Stage("generate", "generation", VIDEOS, sounds * CANDIDATE, 0, CONDITIONS_BYTES + sounds * SOUND_BYTES),
        Stage("score", "scoring", VIDEOS, score, sounds * PESQ_CPU_S, sounds * SOUND_BYTES),
        Stage("prepare test", "preparation", TEST_VIDEOS, FEATURES, cpu, prepared),
        Stage(
            "generate test, base and aligned", "generation", 2 * TEST_VIDEOS, CANDIDATE, 0,
            CONDITIONS_BYTES + SOUND_BYTES,
        ),
        Stage(
            "score test, base and aligned", "scoring", 2 * TEST_VIDEOS, VIDEO_SCORES + AUDIO_SCORES,
            PESQ_CPU_S, SOUND_BYTES,
        ),
    ]  # fmt: skip


def plan(stage: Stage, gpu: Gpu, count: int, assumptions: Assumptions) -> Plan:
    """A stage on `count` GPUs, in as few rounds of equal tasks as the longest task allows."""
    cores = int(PRESETS[gpu.preset].roles[stage.role].cpu)
    gpu_s = stage.tflop / (assumptions.utilisation * gpu.peak)
    clip_s = max(gpu_s, stage.cpu_s / cores)
    shard_s = CLIPS_PER_SHARD[count] * clip_s
    shards = ceil(stage.clips / CLIPS_PER_SHARD[count])
    rounds = ceil(shards * shard_s / count / LONGEST_TASK_S)
    per_task = ceil(shards / (rounds * count))
    tasks = ceil(shards / per_task)
    task_s = assumptions.start_s + per_task * shard_s
    wall_s = ceil(tasks / count) * task_s
    limit = "GPU" if clip_s == gpu_s else "cores"
    if assumptions.start_s > 0.25 * task_s:
        limit += ", start"
    return Plan(stage.name, per_task, tasks, wall_s, limit, 8e-9 * min(count, tasks) * stage.bytes_moved / clip_s)


def align_s(gpu: Gpu, assumptions: Assumptions) -> float:
    """Seconds of DPO on one GPU: both networks on winner and loser, backward through one of them, and AdamW."""
    tflop = 2 * PAIRS * (FORWARD_AND_BACKWARD + FORWARD)
    return DPO_STEPS * (tflop / (assumptions.utilisation * gpu.peak) + gpu.optimizer_s) + assumptions.start_s


def totals(gpu: Gpu, count: int, assumptions: Assumptions) -> tuple[float, float, float]:
    """Wall-clock seconds, GPU seconds asked for, and the share of them in which the arithmetic of the networks runs."""
    plans = [plan(stage, gpu, count, assumptions) for stage in stages(assumptions)]
    align = align_s(gpu, assumptions)
    wall = sum(each.wall_s for each in plans) + align
    asked = sum(each.wall_s * min(count, each.tasks) for each in plans) + align
    tflop = sum(stage.clips * stage.tflop for stage in stages(assumptions)) + align_tflop()
    return wall, asked, tflop / (assumptions.utilisation * gpu.peak) / asked


def align_tflop() -> float:
    """All operations of the alignment in TFLOP."""
    return DPO_STEPS * 2 * PAIRS * (FORWARD_AND_BACKWARD + FORWARD)


def work_table(assumptions: Assumptions) -> str:
    """The operations, and GPU hours at the assumed share of the peak and at the whole of it."""
    rows = [(each.name, each.clips * each.tflop) for each in stages(assumptions)] + [("align", align_tflop())]
    rows.append(("together", sum(tflop for _, tflop in rows)))
    head = [f"{gpu.name} h at {share:.0%}" for gpu in GPUS for share in (assumptions.utilisation, 1.0)]
    lines = _head("stage", "EFLOP", *head)
    for name, tflop in rows:
        hours = [tflop / (share * gpu.peak) / 3600 for gpu in GPUS for share in (assumptions.utilisation, 1.0)]
        lines.append(_row(name, f"{tflop / 1e6:.2f}", *(f"{hour:.1f}" for hour in hours)))
    return "\n".join(lines)


def totals_table(assumptions: Assumptions) -> str:
    """Wall clock and GPU hours of the whole job for each number of GPUs."""
    lines = _head("GPUs", "wall clock, h", "of that align, h", "GPU h asked for", "busy share", "as fast as one GPU")
    for gpu in GPUS:
        alone = totals(gpu, 1, assumptions)[0]
        for count in CLIPS_PER_SHARD:
            wall, asked, busy = totals(gpu, count, assumptions)
            align = align_s(gpu, assumptions)
            lines.append(
                _row(
                    f"{count} x {gpu.name}", *(f"{s / 3600:.1f}" for s in (wall, align, asked)),
                    f"{busy:.0%}", f"{alone / wall:.1f} x",
                )
            )  # fmt: skip
    return "\n".join(lines)


def stage_table(gpu: Gpu, assumptions: Assumptions) -> str:
    """Each stage on each number of GPUs: wall clock, shards a task, what limits it, and what it asks of S3."""
    lines = _head("stage", "GPUs", "wall clock, min", "shards a task", "tasks", "limited by", "S3, Gbit/s")
    for stage in stages(assumptions):
        for count in CLIPS_PER_SHARD:
            each = plan(stage, gpu, count, assumptions)
            lines.append(
                _row(
                    stage.name, str(count), f"{each.wall_s / 60:.0f}", str(each.shards_per_task), str(each.tasks),
                    each.limit, f"{each.s3_gbit_s:.1f}",
                )
            )  # fmt: skip
    lines.append(_row("align", "any", f"{align_s(gpu, assumptions) / 60:.0f}", "", "1", "one GPU", ""))
    return "\n".join(lines)


def cores_table(assumptions: Assumptions) -> str:
    """Cores a GPU needs so that it never waits for decoding or PESQ, and what the presets give."""
    lines = _head("GPU", "stage", "GPU s a clip", "core s a clip", "cores to keep up", "cores in the preset")
    for gpu in GPUS:
        for stage in stages(assumptions)[:3]:
            if stage.cpu_s:
                gpu_s = stage.tflop / (assumptions.utilisation * gpu.peak)
                given = PRESETS[gpu.preset].roles[stage.role].cpu
                lines.append(
                    _row(
                        gpu.name, stage.name, f"{gpu_s:.3f}", f"{stage.cpu_s:.2f}", f"{stage.cpu_s / gpu_s:.1f}",
                        f"{given} (`{gpu.preset}`)",
                    )
                )  # fmt: skip
    return "\n".join(lines)


def tables(assumptions: Assumptions) -> dict[str, str]:
    """All tables by name."""
    by_gpu = {f"stages-{gpu.name.lower()}": stage_table(gpu, assumptions) for gpu in GPUS}
    return {
        "work": work_table(assumptions),
        "totals": totals_table(assumptions),
        "cores": cores_table(assumptions),
    } | by_gpu


def with_tables(page: str, made: dict[str, str]) -> str:
    """The page with what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` replaced by the table NAME."""
    for name, table in made.items():
        begin, end = f"<!-- {name}:begin -->\n", f"\n<!-- {name}:end -->"
        # A backslash in the new text would be read as a group of the pattern.
        new = (begin + table + end).replace("\\", r"\\")
        page, found = re.subn(f"{begin}.*?{end.strip()}", new, page, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"the page has {found} places for the table {name}, not one")
    return page


def main() -> None:
    """Prints the tables, or writes them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Assumptions()
    parser.add_argument("--utilisation", type=float, default=defaults.utilisation, help="share of the bfloat16 peak")
    parser.add_argument("--video-cpu-s", type=float, default=defaults.video_cpu_s, help="core seconds to read a clip")
    parser.add_argument(
        "--start-s", type=float, default=defaults.start_s, help="seconds from a pod's start to its first batch"
    )
    parser.add_argument("--write", type=Path, help="the page whose tables are replaced")
    options = parser.parse_args()
    made = tables(Assumptions(options.utilisation, options.video_cpu_s, options.start_s))
    if options.write is None:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in made.items()))
    else:
        options.write.write_text(with_tables(options.write.read_text(encoding="utf-8"), made), encoding="utf-8")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), _row("---", *["---:"] * (len(cells) - 1))]


if __name__ == "__main__":
    main()
