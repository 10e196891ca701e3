"""The table of all seeds, and its four rows in the README."""

import json
from dataclasses import replace

from benchmarks.seeds import BEGIN, END, README, RESULTS, short_table, table
from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.metrics import METRICS, BootstrapSettings, Comparison, WinRate


def comparison(*, louder):
    real = {"rms": 0.077, "lufs": -21.3, "clipped_share": 0.001, "embedding_norm": 14.0}
    aligned = {**real, "rms": 0.149, "lufs": None, "clipped_share": 0.019}
    return Comparison(
        clips=256,
        reference="base",
        systems={name: {metric.key: Interval(2.0, 1.0, 3.0) for metric in METRICS} for name in ("base", "aligned")},
        differences={"aligned": {metric.key: Difference(0.5, 0.25, 0.75, 0.001, 0.002) for metric in METRICS}},
        win_rate={"aligned": WinRate(0.7, 0.6, 0.8, 0.001, 0.002, clips=268)},
        counts={metric.key: 256 for metric in METRICS},
        failed={"base": 0, "aligned": 12},
        bootstrap=BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0),
        levels={"real": real, "base": {**real, "rms": 0.093}, "aligned": aligned if louder else real},
    )


def test_a_row_a_metric_then_wins_failures_and_levels_with_the_real_sounds_in_brackets():
    rows = [
        line.strip("| ").split(" | ")
        for line in table({0: comparison(louder=True), 2: comparison(louder=False)}, {}).splitlines()
    ]
    assert rows[0] == ["metric", "seed 0", "seed 2", "together: aligned - base"]
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert len(cells) == len(METRICS) + 6
    assert cells["FD (PaSST) ↓"][0] == "2.00 → 2.00 (+0.50 [+0.25, +0.75] worse)"
    assert cells["clips without usable sound from one system alone"][:2] == ["0 → 12", "0 → 12"]
    assert cells["RMS"][:2] == ["0.093 → 0.149 (real 0.077)", "0.093 → 0.077 (real 0.077)"]
    assert cells["Loudness (LUFS)"][0] == "−21.3 → – (real −21.3)"
    assert cells["Clipped samples"][0] == "0.10% → 1.90% (real 0.10%)"


def test_the_readme_shows_the_range_over_the_seeds_and_whether_they_agree():
    one = comparison(louder=False)
    worse = {"aligned": {**one.differences["aligned"], "ib_score": Difference(-1.5, -2.0, -1.0, 0.001, 0.002)}}
    rows = [
        line.strip("| ").split(" | ") for line in short_table({0: one, 1: replace(one, differences=worse)}).splitlines()
    ]
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert cells["FD (PaSST) ↓"] == ["+0.50 to +0.50", "worse for every seed"]
    assert cells["IB-score ↑"] == ["-1.50 to +0.50", "better or worse, by seed"]
    assert cells["DeSync ↓"][0] == "+0.500 to +0.500 s"


def test_the_readmes_rows_are_those_of_the_recorded_seeds():
    recorded = json.loads((RESULTS / "seeds.json").read_text())["seeds"]
    comparisons = {int(seed): Comparison.from_dict(values) for seed, values in recorded.items()}
    shown = README.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == short_table(comparisons).strip()
