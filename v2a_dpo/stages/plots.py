"""Stage: the loop's curves as plain tables, for `dvc plots` and for anyone with a spreadsheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from v2a_dpo.alignment.run.log import LOG, read_log
from v2a_dpo.artifacts.json_files import read_json
from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.text_table import write_csv
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import read_curve
from v2a_dpo.preference.audioscore import METRICS_FILE
from v2a_dpo.progress import Progress, silent

#: File -> its columns; `dvc.yaml` names both.
ALIGNMENT = ("step", "loss", "implicit_accuracy", "margin", "winner_difference", "loser_difference", "gradient_norm")
VALIDATION = ("step", "validation_loss", "validation_implicit_accuracy", "validation_margin")
AUDIOSCORE = ("step", "training_loss", "validation_loss")
GUIDANCE_KEY = "guidance_scale"


def plots(
    params: Params, *, alignment: str, audioscore: str, guidance: str, output: str, progress: Progress = silent
) -> str:
    """Writes `alignment.csv`, `alignment-validation.csv`, `audioscore.csv` and `guidance.csv` to `output`; says where.

    `alignment`, `audioscore` and `guidance` are the folders that these stages wrote.
    """
    records = read_log(join(alignment, LOG))
    _write(join(output, "alignment.csv"), ALIGNMENT, [record for record in records if "loss" in record])
    _write(join(output, "alignment-validation.csv"), VALIDATION, [row for row in records if "validation_loss" in row])
    history = read_json(join(audioscore, METRICS_FILE))["history"]
    losses = zip(history["training_loss"], history["validation_loss"], strict=True)
    rows = [dict(zip(AUDIOSCORE, (step, *pair), strict=True)) for step, pair in enumerate(losses)]
    _write(join(output, "audioscore.csv"), AUDIOSCORE, rows)
    points = read_curve(guidance)
    names = [name for name in points[0] if name not in {GUIDANCE_KEY, "system", "clips"}] if points else []
    systems = dict.fromkeys(point["system"] for point in points)
    columns = [GUIDANCE_KEY, *(f"{system}_{name}" for name in names for system in systems)]
    _write(join(output, "guidance.csv"), columns, _wide(points, names))
    progress("Tables of the curves", 1, 1)
    return f"Tables of the curves are in {PurePosixPath(output)}"


def _wide(points: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per guidance scale, the systems side by side."""
    rows: dict[float, dict[str, Any]] = {}
    for point in points:
        row = rows.setdefault(point[GUIDANCE_KEY], {GUIDANCE_KEY: point[GUIDANCE_KEY]})
        row |= {f"{point['system']}_{name}": point[name] for name in names}
    return [rows[scale] for scale in sorted(rows)]


def _write(uri: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    write_csv(uri, columns, ([row.get(name) for name in columns] for row in rows))
