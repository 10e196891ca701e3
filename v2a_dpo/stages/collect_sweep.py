"""The paper's Table 2 (section 3.2): every cell of a sweep on the same held-out clips, beside the same base."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from v2a_dpo.artifacts.location import join, read_bytes, write_atomically
from v2a_dpo.config import Params
from v2a_dpo.evaluation.metrics import METRICS
from v2a_dpo.preference import EASY
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.evaluate import METRICS_FILE

CSV_FILE, TABLE_FILE, JSON_FILE = "sweep.csv", "sweep.md", "sweep.json"


def collect_sweep(
    params: Params,
    *,
    cells: Sequence[str],
    pairs: Sequence[str],
    evaluations: Sequence[str],
    output: str,
    progress: Progress = silent,
) -> str:
    """The table of all cells as Markdown, a row a cell and first the base; also in `output` as CSV and, with intervals, JSON.

    `pairs` and `evaluations` are the folders that `mine` and `evaluate` wrote, in the order of `cells`: of the first
    comes the share of pairs that are easy.
    """
    easy = [_easy_share(folder) for folder in pairs]
    metrics = {
        cell: json.loads(read_bytes(join(folder, METRICS_FILE)))
        for cell, folder in zip(cells, evaluations, strict=True)
    }
    first = next(iter(metrics.values()))
    columns = [metric for metric in METRICS if metric.key in first["base"]]
    rows = [
        ("base", None, first["base"]),
        *((cell, share, values["aligned"]) for (cell, values), share in zip(metrics.items(), easy, strict=True)),
    ]
    header = [
        "cell",
        "easy pairs",
        *(f"{metric.title} {'↑' if metric.higher_is_better else '↓'}" for metric in columns),
    ]
    shown = [
        [
            name,
            "" if share is None else f"{share:.0%}",
            *(f"{values[metric.key]['value']:.{metric.decimals}f}" for metric in columns),
        ]
        for name, share, values in rows
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *shown)) + "\n"
    numbers = io.StringIO()
    writer = csv.writer(numbers, lineterminator="\n")
    writer.writerow(["cell", "easy_share", *(metric.key for metric in columns)])
    writer.writerows(
        [name, share, *(values[metric.key]["value"] for metric in columns)] for name, share, values in rows
    )
    everything = {cell: {"easy_share": share, **metrics[cell]} for cell, share in zip(cells, easy, strict=True)}
    for name, content in (
        (CSV_FILE, numbers.getvalue()),
        (TABLE_FILE, table),
        (JSON_FILE, json.dumps(everything, indent=2, allow_nan=False) + "\n"),
    ):
        write_atomically(join(output, name), content.encode())
    progress("Collecting", len(metrics), len(metrics))
    return table


def _easy_share(pairs: str) -> float:
    """The share of easy pairs among those in the folder `pairs`, by the summary beside it."""
    phases = json.loads(read_bytes(f"{pairs.rstrip('/')}-summary.json"))["phases"]
    return float(phases.get(EASY, 0) / sum(phases.values()))
