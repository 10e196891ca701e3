"""The paper's Table 2: every cell of the grid on the same held-out clips, beside the same base."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from v2a_dpo.artifacts.location import join, read_bytes, write_atomically
from v2a_dpo.config import Params
from v2a_dpo.evaluation.metrics import METRICS
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.evaluate import METRICS_FILE

CSV_FILE, TABLE_FILE, JSON_FILE = "sweep.csv", "sweep.md", "sweep.json"


def collect_sweep(
    params: Params, *, cells: Sequence[str], evaluations: Sequence[str], output: str, progress: Progress = silent
) -> str:
    """The table of all cells as Markdown, a row a cell and first the base; also in `output` as CSV and, with intervals, JSON.

    `evaluations` are the folders that `evaluate` wrote, in the order of `cells`.
    """
    metrics = {
        cell: json.loads(read_bytes(join(folder, METRICS_FILE)))
        for cell, folder in zip(cells, evaluations, strict=True)
    }
    first = next(iter(metrics.values()))
    columns = [metric for metric in METRICS if metric.key in first["base"]]
    rows = [("base", first["base"]), *((cell, values["aligned"]) for cell, values in metrics.items())]
    header = ["cell", *(f"{metric.title} {'↑' if metric.higher_is_better else '↓'}" for metric in columns)]
    shown = [
        [name, *(f"{values[metric.key]['value']:.{metric.decimals}f}" for metric in columns)] for name, values in rows
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *shown)) + "\n"
    numbers = io.StringIO()
    writer = csv.writer(numbers, lineterminator="\n")
    writer.writerow(["cell", *(metric.key for metric in columns)])
    writer.writerows([name, *(values[metric.key]["value"] for metric in columns)] for name, values in rows)
    for name, content in (
        (CSV_FILE, numbers.getvalue()),
        (TABLE_FILE, table),
        (JSON_FILE, json.dumps(metrics, indent=2) + "\n"),
    ):
        write_atomically(join(output, name), content.encode())
    progress("Collecting", len(metrics), len(metrics))
    return table
