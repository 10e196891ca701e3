"""The cells of the paper's Table 2 (section 3.2): beta and the curriculum threshold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.location import join, write_atomically
from v2a_dpo.artifacts.text_table import write_csv
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Interval
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.metrics import METRICS
from v2a_dpo.params import override_params, params_from, values_of
from v2a_dpo.preference.pairs import EASY
from v2a_dpo.progress import Progress, silent

_CELL = re.compile(r"beta-(.+)-threshold-(.+)")


def plan_sweep(
    params: Params,
    *,
    betas: Sequence[float],
    thresholds: Sequence[float],
    grid: bool = False,
    progress: Progress = silent,
) -> list[str]:
    """The names of the sweep's cells, such as `beta-600-threshold-0.7`, in the order of the paper's Table 2.

    One factor at a time: the parameters' own beta and threshold, then each of `betas` at that threshold, then each of
    `thresholds` at that beta. With `grid`, every one of `betas` with every one of `thresholds`. Raises UserError for a
    list that is empty, names a value twice or holds anything but numbers, and for a value that is not allowed.
    """
    for where, values in (("betas", betas), ("thresholds", thresholds)):
        _check_numbers(where, values)
    beta, threshold = params.align.beta, _own_threshold(params)
    cells = [(beta, threshold), *((each, threshold) for each in betas), *((beta, each) for each in thresholds)]
    if grid:
        cells = list(product(betas, thresholds))
    names = list(dict.fromkeys(f"beta-{beta:g}-threshold-{threshold:g}" for beta, threshold in cells))
    content = values_of(params)
    for name in names:
        cell_params(content, name)
    progress("Planning", len(names), len(names))
    return names


def _check_numbers(where: str, values: Sequence[Any]) -> None:
    wrong = [value for value in values if isinstance(value, bool) or not isinstance(value, int | float)]
    if wrong or not values or len({f"{value:g}" for value in values}) < len(values):
        what = f"{wrong[0]!r} is not a number" if wrong else "a value is repeated" if values else "the list is empty"
        raise UserError(
            f"The sweep needs different numbers, but {what}.", where=where, remedy="Give a list such as [200, 400]."
        )


def _own_threshold(params: Params) -> float:
    """The threshold of the parameters: a complexity score or a quantile."""
    own = params.mine.threshold
    return next(number for number in (own.value, own.quantile) if number is not None)


def cell_params(params: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """The values of all parameters in the cell called `cell`; everything but beta and threshold is as in `params`.

    The threshold is a complexity score, or a quantile of it where `params` names a quantile.
    """
    match = _CELL.fullmatch(cell)
    if match is None:
        raise UserError(f"Invalid sweep cell {cell!r}.", where="cell", remedy="Use a name from plan_sweep.")
    beta, threshold = match.groups()
    mine = override_params(params, []).get("mine") or {}
    kind = "quantile" if (mine.get("threshold") or {}).get("quantile") is not None else "value"
    changed = override_params(params, [f"align.beta={beta}"])
    changed["mine"] = {**mine, "threshold": {kind: float(threshold)}}
    return values_of(params_from(changed, where=cell))


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
    """The table of all cells as Markdown, one row per cell after the base; also in `output` as CSV and, with intervals,
    JSON.

    `pairs` and `evaluations` are the folders that `mine` and `evaluate` wrote, in the order of `cells`; the first give
    the share of easy pairs.
    """
    easy = [_easy_share(folder) for folder in pairs]
    comparisons = {cell: EvaluationFolder(folder).comparison() for cell, folder in zip(cells, evaluations, strict=True)}
    first = next(iter(comparisons.values()))
    reference = first.systems[first.reference]
    columns = [metric for metric in METRICS if metric.key in reference]
    rows: list[tuple[str, float | None, Mapping[str, Interval]]] = [(first.reference, None, reference)]
    for (cell, comparison), share in zip(comparisons.items(), easy, strict=True):
        (system,) = comparison.others
        rows.append((cell, share, comparison.systems[system]))
    header = [
        "cell",
        "easy pairs",
        *(f"{metric.title} {'↑' if metric.higher_is_better else '↓'}" for metric in columns),
    ]
    shown = [
        [
            name,
            "" if share is None else f"{share:.0%}",
            *(f"{values[metric.key].value:.{metric.decimals}f}" for metric in columns),
        ]
        for name, share, values in rows
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *shown)) + "\n"
    everything = {
        cell: {"easy_share": share, **comparisons[cell].to_dict()} for cell, share in zip(cells, easy, strict=True)
    }
    write_csv(
        join(output, CSV_FILE),
        ["cell", "easy_share", *(metric.key for metric in columns)],
        ([name, share, *(values[metric.key].value for metric in columns)] for name, share, values in rows),
    )
    write_atomically(join(output, TABLE_FILE), table.encode())
    write_json(join(output, JSON_FILE), everything)
    progress("Collecting", len(cells), len(cells))
    return table


def _easy_share(pairs: str) -> float:
    """The share of easy pairs among those in the folder `pairs`, by the summary beside it."""
    phases = read_json(f"{pairs.rstrip('/')}-summary.json")["phases"]
    return float(phases.get(EASY, 0) / sum(phases.values()))
