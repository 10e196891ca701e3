"""The arithmetic of scaling against hand-worked cases, and its pages against its output."""

import re
from pathlib import Path

import pytest

from benchmarks.scaling import (
    CLIPS_PER_SHARD,
    GPUS,
    PESQ_CPU_S,
    Assumptions,
    Gpu,
    Stage,
    align_s,
    plan,
    stages,
    tables,
    totals,
    with_tables,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "benchmarks" / "results" / "scaling.md"
#: A GPU of 100 TFLOP/s, all of which is used, whose preset has 12 cores for preparation.
PLAIN = Gpu("plain", 100.0, 0.0, "gpu")
FREE_START = Assumptions(utilisation=1.0, start_s=0.0)


def test_the_page_shows_what_the_script_computes():
    page = PAGE.read_text()
    assert with_tables(page, tables(Assumptions())) == page


def test_the_document_has_the_hours_of_the_tables():
    document = (ROOT / "docs" / "scaling.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) h, ([\d.]+) \| ([\d.]+) h, ([\d.]+) \|$", document, re.MULTILINE)
    shown = {int(count): [float(hours) for hours in each] for count, *each in rows}
    assert shown.keys() == CLIPS_PER_SHARD.keys()
    for count, hours in shown.items():
        seconds = [value for gpu in GPUS for value in totals(gpu, count, Assumptions())[:2]]
        assert hours == pytest.approx([value / 3600 for value in seconds], abs=0.06), count


def test_a_table_that_is_not_in_the_page_is_missed():
    with pytest.raises(ValueError, match="0 places for the table other"):
        with_tables(PAGE.read_text(), {"other": "| |"})


def test_a_stage_that_only_computes_takes_its_operations_over_the_peak():
    # 1024 clips of 50 TFLOP at 100 TFLOP/s: 512 s on one GPU, 64 s on eight (four shards: four GPUs, 128 s).
    stage = Stage("any", "preparation", 1024, 50.0, 0.0, 10**9)
    assert plan(stage, PLAIN, 1, FREE_START).wall_s == pytest.approx(512)
    eight = plan(stage, PLAIN, 8, FREE_START)
    assert (eight.tasks, eight.shards_per_task) == (4, 1)
    assert eight.wall_s == pytest.approx(128)
    assert eight.s3_gbit_s == pytest.approx(4 * 8 / 0.5)


def test_a_stage_short_of_cores_takes_their_time():
    # 12 cores need 2 s for 24 core seconds, the GPU 0.5 s.
    each = plan(Stage("any", "preparation", 256, 50.0, 24.0, 1), PLAIN, 1, FREE_START)
    assert each.limit == "cores"
    assert each.wall_s == pytest.approx(512)


def test_a_short_task_is_limited_by_its_start():
    each = plan(Stage("any", "preparation", 256, 1.0, 0.0, 1), PLAIN, 1, Assumptions(utilisation=1.0, start_s=120))
    assert each.limit == "GPU, start"
    assert each.wall_s == pytest.approx(120 + 2.56)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("count", CLIPS_PER_SHARD)
def test_every_shard_is_in_a_task_and_no_task_is_too_long(gpu, count):
    for stage in stages(Assumptions()):
        each = plan(stage, gpu, count, Assumptions())
        rounds = -(-each.tasks // count)
        assert (each.tasks - 1) * each.shards_per_task < -(-stage.clips // CLIPS_PER_SHARD[count])
        assert each.tasks * each.shards_per_task >= -(-stage.clips // CLIPS_PER_SHARD[count])
        assert each.wall_s / rounds < 4.5 * 3600


def test_alignment_takes_the_same_time_on_any_number_of_gpus():
    a100 = GPUS[0]
    # 12,000 steps of 33.8 TFLOP at 40% of 312 TFLOP/s and 17 ms of AdamW: 57.5 minutes.
    assert align_s(a100, Assumptions(start_s=0)) / 60 == pytest.approx(57.5, abs=0.3)
    walls = [totals(a100, count, Assumptions())[0] for count in CLIPS_PER_SHARD]
    assert walls == sorted(walls, reverse=True)
    assert min(walls) > align_s(a100, Assumptions())


def test_scoring_is_bound_by_pesq_as_the_page_says():
    score = next(stage for stage in stages(Assumptions()) if stage.name == "score")
    assert score.cpu_s == pytest.approx(5 * PESQ_CPU_S)
    assert all(plan(score, gpu, 1, Assumptions()).limit == "cores" for gpu in GPUS)
