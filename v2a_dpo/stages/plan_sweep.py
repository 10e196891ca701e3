"""The grid of the paper's Table 2: beta and the curriculum threshold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from v2a_dpo.config import Params, override_params, params_from, values_of
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent

_CELL = re.compile(r"beta-(.+)-threshold-(.+)")


def plan_sweep(
    params: Params, *, betas: Sequence[float], thresholds: Sequence[float], progress: Progress = silent
) -> list[str]:
    """The names of the grid's cells, such as `beta-600-threshold-0.7`; raises UserError for a value that is not allowed."""
    names = [f"beta-{beta:g}-threshold-{threshold:g}" for beta in betas for threshold in thresholds]
    if not names or len(set(names)) < len(names):
        raise UserError(
            "The grid is empty or names a value twice.", where="betas, thresholds", remedy="Give different numbers."
        )
    content = values_of(params)
    for name in names:
        cell_params(content, name)
    progress("Planning", len(names), len(names))
    return names


def cell_params(params: Mapping[str, Any], cell: str) -> dict[str, Any]:
    """The values of all parameters in the cell called `cell`; everything but beta and threshold is as in `params`.

    The threshold is a complexity score, or a quantile of it where `params` names a quantile.
    """
    named = _CELL.fullmatch(cell)
    if named is None:
        raise UserError(f"{cell!r} is no cell of a grid.", where="cell", remedy="Use a name that plan_sweep gave.")
    beta, threshold = named.groups()
    mine = override_params(params, []).get("mine") or {}
    kind = "quantile" if (mine.get("threshold") or {}).get("quantile") is not None else "value"
    changed = override_params(params, [f"align.beta={beta}"])
    changed["mine"] = {**mine, "threshold": {kind: float(threshold)}}
    return values_of(params_from(changed, where=cell))
