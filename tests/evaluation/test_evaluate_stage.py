import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import SCORES
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.stages.guidance import guidance


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_metrics_table_and_summary_are_written_and_honest(loop, evaluated):
    output, text = evaluated
    metrics = json.loads(Path(output, "metrics.json").read_text())
    summary = json.loads(Path(output, "summary.json").read_text())
    assert metrics["clips"] == summary["expected_clips"] == 12
    assert summary["rater"] == "simulated rater"
    assert summary["sampling"] == {
        name: {"seed": loop.params.seed, "steps": 12, "guidance_scale": 2.0, "use_text": True, "sample_rate": 16_000}
        for name in ("base", "aligned")
    }
    assert set(metrics["systems"]["base"]) == {
        "fd_passt",
        "kl_panns",
        "kl_passt",
        "inception_score",
        "ib_score",
        "desync_s",
        "clap_score",
        "rater_quality",
    }
    quality = metrics["differences"]["aligned"]["rater_quality"]
    assert quality["low"] > 0, "less late and less noisy audio pleases the rater"
    assert metrics["win_rate"]["aligned"]["value"] > 0.5
    for words in ("simulated rater", "tiny profile, 12 test clips", "Aligned is"):
        assert words in text
    table = Path(output, "table.md").read_text()
    assert "| Base |" in table
    assert "| Metric |" in table
    assert set(metrics["levels"]) == {"real", "base", "aligned"}
    assert "| Real |" in table
    assert "neither better nor worse" in text


def test_levels_are_the_means_of_what_is_kept_for_each_clip(loop, evaluated):
    levels = json.loads(Path(evaluated[0], "metrics.json").read_text())["levels"]
    for name in ("real", "base", "aligned"):
        table = Dataset.open(f"{evaluated[0]}/features/{name}").table()
        for key in ("rms", "lufs", "clipped_share"):
            assert levels[name][key] == pytest.approx(np.mean(table[key].to_numpy()))
    first = Dataset.open(loop.folder("candidates", "base")).table().to_pylist()[0]
    sound, _ = decode_flac(first["audio"]["bytes"])
    kept = Dataset.open(f"{evaluated[0]}/features/base").table().to_pylist()[0]
    assert kept["clip_id"] == first["clip_id"]
    assert kept["rms"] == pytest.approx(np.sqrt(np.mean(np.square(sound.numpy()))), rel=1e-5)


def test_per_clip_numbers_average_to_the_metrics(evaluated):
    output, _ = evaluated
    comparison = Comparison.from_dict(json.loads(Path(output, "metrics.json").read_text()))
    rows = Dataset.open(f"{output}/per-clip").table().to_pylist()
    assert len(rows) == 24
    for system in ("base", "aligned"):
        for key in ("kl_panns", "ib_score", "desync_s", "rater_quality"):
            mean = np.mean([row[key] for row in rows if row["system"] == system])
            assert comparison.systems[system][key].value == pytest.approx(mean, rel=1e-6)


def test_the_curve_has_both_systems_at_every_scale_with_intervals(curve):
    records = json.loads(Path(curve, "guidance-curve.json").read_text())
    assert [(record["guidance_scale"], record["system"]) for record in records] == [
        (1.0, "base"),
        (1.0, "aligned"),
        (2.0, "base"),
        (2.0, "aligned"),
    ]
    for record in records:
        assert record["clips"] == 4
        assert record["kl_panns_low"] <= record["kl_panns"] <= record["kl_panns_high"]
    # Guidance cannot change a velocity of zero; it does change the other model's.
    assert records[0]["kl_panns"] == pytest.approx(records[2]["kl_panns"])
    assert records[1]["kl_panns"] != pytest.approx(records[3]["kl_panns"])


def test_a_second_run_makes_no_shard_again_and_the_same_files(loop, evaluated, curve):
    folders = (evaluated[0], curve)
    before = [contents(folder) for folder in folders]
    stamps = {path: path.stat().st_mtime_ns for folder in folders for path in Path(folder).rglob("part-*.parquet")}
    loop.evaluate(evaluated[0])
    guidance(loop.params, **loop.guidance_inputs, output=curve)
    assert [contents(folder) for folder in folders] == before
    assert stamps == {
        path: path.stat().st_mtime_ns for folder in folders for path in Path(folder).rglob("part-*.parquet")
    }


def test_without_events_nobody_rates_and_no_rating_appears(loop, tmp_path):
    text = loop.evaluate(tmp_path, events=None)
    assert "rater" not in text
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["win_rate"] == {}
    assert "rater_quality" not in metrics["systems"]["base"]
    assert json.loads((tmp_path / "summary.json").read_text())["rater"] is None


def test_clips_without_scores_are_counted_and_too_many_stop_the_evaluation(loop, tmp_path, new_system):
    first = {row["clip_id"] for row in Dataset.open(loop.folder("scores", "base"), SCORES).table().to_pylist()[:9]}
    base = new_system("base", scores=lambda row: row if row["clip_id"] in first else None)
    with pytest.raises(UserError, match=r"Only 9 of 12 .* base 3, aligned 0"):
        loop.evaluate(tmp_path / "out", base=base)
    loop.evaluate(tmp_path / "out", params=loop.with_settings(evaluate={"min_paired": 0.7}), base=base)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["clips"], summary["missing"]["base"]) == (9, 3)


def test_a_video_without_sound_leaves_its_clip_out_with_a_reason(loop, tmp_path, write_rows, new_system):
    from v2a_dpo.artifacts.schema import CLIPS

    rows = Dataset.open(loop.folder("clips"), CLIPS).table().to_pylist()
    rows[3]["video"] = str(tmp_path / "gone.mp4")
    write_rows(tmp_path / "clips", CLIPS, rows)
    clips = Dataset.open(str(tmp_path / "clips")).fingerprint
    lenient = loop.with_settings(evaluate={"min_paired": 0.9})
    systems = {name: new_system(name, of=name, made_of={"clips": clips}) for name in ("base", "aligned")}
    loop.evaluate(tmp_path / "out", params=lenient, **systems, clips=str(tmp_path / "clips"))
    quarantine = pq.read_table(tmp_path / "out" / "features" / "real" / "_quarantine.parquet").to_pylist()
    assert [row["clip_id"] for row in quarantine] == [rows[3]["clip_id"]]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["clips"] == 11
