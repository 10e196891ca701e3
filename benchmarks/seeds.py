"""The whole loop of the tiny profile for several seeds, and one table of all of them: no seed is left out.

    python -m benchmarks.seeds --seeds 0 1 2

A seed decides everything: the world, the scorers' and the generator's pre-training, candidates, ratings, alignment. The
loop of the seed in `params.yaml` is that of `make demo`, under `artifacts`; the others lie under
`artifacts/seeds/<seed>`. Finished loops are kept. All results go to `benchmarks/results/`, four rows of them into the
README.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.artifacts.location import join
from v2a_dpo.cli.console import ProgressBars
from v2a_dpo.evaluation.bootstrap import Difference, difference, resample_indices, resampled_means
from v2a_dpo.evaluation.folder import EvaluationFolder, read_curve
from v2a_dpo.evaluation.levels import LEVELS
from v2a_dpo.evaluation.metrics import METRICS, PER_CLIP, Comparison, Metric, verdict
from v2a_dpo.orchestration.loop import run
from v2a_dpo.params import load_params

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- seeds:begin -->", "<!-- seeds:end -->"
#: The metrics in the README; the others are in `results/seeds.md`.
README_METRICS = ("fd_passt", "kl_panns", "ib_score", "desync_s")
RESAMPLES = 4000


def main() -> None:
    """Runs the loops that are missing and writes `seeds.json` and `seeds.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--root", default="artifacts")
    parser.add_argument("--table-only", action="store_true", help="run nothing: only read the loops that are there")
    options = parser.parse_args()
    layouts = {}
    for seed in options.seeds:
        own = seed == load_params(options.params).seed
        layouts[seed] = Layout(options.root if own else join(options.root, "seeds", str(seed)))
        if options.table_only:
            continue
        start = time.monotonic()
        with ProgressBars() as progress:
            run(load_params(options.params, [f"seed={seed}"]), root=layouts[seed].root, progress=progress)
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(f"seed {seed}: {time.monotonic() - start:.0f} s, largest process so far {peak / 2**20:.2f} GiB")
    comparisons = {seed: EvaluationFolder(layout.evaluation).comparison() for seed, layout in layouts.items()}
    content = {
        "seeds": {seed: comparison.to_dict() for seed, comparison in comparisons.items()},
        "curves": {s: read_curve(layout.guidance) for s, layout in layouts.items()},
    }
    pooled = {key: _pooled(list(layouts.values()), metric) for key, metric in _by_key().items() if key in PER_CLIP}
    content["pooled"] = {key: vars(value) for key, value in pooled.items()}
    (RESULTS / "seeds.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    params = load_params(options.params)
    text = (
        f"Base → aligned on {params.world.test_clips} test clips per seed at guidance scale "
        f"{params.generate.guidance_scale:g}, with the same noise; in brackets aligned minus "
        "base with its paired 95% bootstrap interval over clips. The last rows say how loud the sounds "
        "are, the real ones in "
        "brackets: levels are judged neither better nor worse. Made by `make seeds`; every seed run with "
        "these settings is here, and the settings were chosen on seed 0.\n\n"
        + table(comparisons, pooled)
        + "\nBase → aligned at other guidance scales, "
        f"means over the seeds, {params.evaluate.curve_clips} clips each:\n\n" + curve_table(content["curves"])
    )
    (RESULTS / "seeds.md").write_text(text)
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{short_table(comparisons)}{END}{rest.partition(END)[2]}")
    print(text)


def _by_key() -> dict[str, Metric]:
    return {metric.key: metric for metric in METRICS}


def _pooled(layouts: list[Layout], metric: Metric) -> Difference:
    """The paired difference over the clips of all seeds together, clips resampled as if they were one test set."""
    gains = []
    for layout in layouts:
        rows = EvaluationFolder(layout.evaluation).per_clip(["system", metric.key]).to_pylist()
        values = {
            name: np.array([r[metric.key] for r in rows if r["system"] == name], float) for name in ("base", "aligned")
        }
        gains.append(values["aligned"] - values["base"])
    gain = np.concatenate(gains)
    resampled = resampled_means(gain, resample_indices(len(gain), resamples=RESAMPLES, seed=0))
    return difference(float(np.nanmean(gain)), resampled, confidence=0.95, higher_is_better=metric.higher_is_better)


def table(comparisons: dict[int, Comparison], pooled: dict[str, Difference]) -> str:
    """A row a metric: base -> aligned of each seed with its paired 95% interval, then all clips together; then levels.

    Levels are means over clips, with the real audio's in brackets.
    """
    head = ["metric", *(f"seed {seed}" for seed in comparisons), "together: aligned - base"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for metric in METRICS:
        cells = [
            f"{metric.title}{f' ({metric.unit})' if metric.unit else ''} {'↑' if metric.higher_is_better else '↓'}"
        ]
        for comparison in comparisons.values():
            base, aligned = (comparison.systems[name][metric.key].value for name in ("base", "aligned"))
            change = comparison.differences["aligned"][metric.key]
            cells.append(f"{base:.{metric.decimals}f} → {aligned:.{metric.decimals}f} {_change(metric, change)}")
        cells.append(_change(metric, pooled[metric.key]) if metric.key in pooled else "a set metric: see each seed")
        lines.append("| " + " | ".join(cells) + " |")
    wins = [comparison.win_rate.get("aligned") for comparison in comparisons.values()]
    if all(wins):
        cells = [f"{win.value:.3f} [{win.low:.3f}, {win.high:.3f}]" for win in wins if win]
        lines.append("| win rate (simulated rater) | " + " | ".join(cells) + " | |")
    failures = [f"{made.failed['base']} → {made.failed['aligned']}" for made in comparisons.values()]
    lines.append("| " + " | ".join(["clips without usable sound from one system alone", *failures, ""]) + " |")
    for level in LEVELS:
        cells = [level.title]
        for comparison in comparisons.values():
            base, aligned, real = (
                level.shown(comparison.levels[name][level.key]) for name in ("base", "aligned", "real")
            )
            cells.append(f"{base} → {aligned} (real {real})")
        lines.append("| " + " | ".join([*cells, ""]) + " |")
    return "\n".join(lines) + "\n"


def short_table(comparisons: dict[int, Comparison]) -> str:
    """The README's rows: a metric, the smallest and the largest change over the seeds, and the seeds' verdicts."""
    lines = ["| metric | change over seeds | verdict |", "| --- | --- | --- |"]
    for metric in (_by_key()[key] for key in README_METRICS):
        changes = [comparison.differences["aligned"][metric.key] for comparison in comparisons.values()]
        values = [change.value for change in changes]
        verdicts = sorted({verdict(metric, change) for change in changes})
        unit = f" {metric.unit}" if metric.unit else ""
        span = " to ".join(f"{end:+.{metric.decimals}f}" for end in (min(values), max(values)))
        same = f"{verdicts[0]} for every seed" if len(verdicts) == 1 else f"{' or '.join(verdicts)}, by seed"
        lines.append(f"| {metric.title} {'↑' if metric.higher_is_better else '↓'} | {span}{unit} | {same} |")
    return "\n".join(lines) + "\n"


def _change(metric: Metric, change: Difference) -> str:
    digits = metric.decimals
    return (
        f"({change.value:+.{digits}f} [{change.low:+.{digits}f}, {change.high:+.{digits}f}] {verdict(metric, change)})"
    )


def curve_table(curves: dict[int, list[dict]]) -> str:
    """Base -> aligned at each guidance scale, means over the seeds, on the curve's clips."""
    shown = [metric for metric in METRICS if metric.key in ("kl_panns", "ib_score", "desync_s", "rater_quality")]
    head = ["guidance scale", *(metric.title for metric in shown)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    records = [record for curve in curves.values() for record in curve]
    for scale in sorted({record["guidance_scale"] for record in records}):
        cells = [f"{scale:g}"]
        for metric in shown:
            means = [
                np.mean([r[metric.key] for r in records if r["guidance_scale"] == scale and r["system"] == name])
                for name in ("base", "aligned")
            ]
            cells.append(" → ".join(f"{mean:.{metric.decimals}f}" for mean in means))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
