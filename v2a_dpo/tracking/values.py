"""Numbers and parameters in MLflow's form: flat names, one value each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MetricPoint:
    """One number of a run; `model_id` ties it to a logged model, `time_ms` (since 1970) is None for the present."""

    key: str
    value: float
    step: int = 0
    model_id: str = ""
    time_ms: int | None = None


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names, as text; lists and numbers as JSON."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    return flat


def numbers(values: Mapping[str, Any], prefix: str = "") -> list[MetricPoint]:
    """The numbers in nested `values` as metrics named by their path, such as `base/ib_score/low`; no other values."""
    points: list[MetricPoint] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            points += numbers(value, f"{name}/")
        elif _is_number(value):
            points.append(MetricPoint(name, value))
    return points


def curve(records: Iterable[Mapping[str, Any]], *, prefix: str = "") -> list[MetricPoint]:
    """The numbers of a training log, one point each at the record's `step`; a list counts by its length.

    A record's `time_ms` is its time, not a metric.
    """
    points: list[MetricPoint] = []
    for record in records:
        for key, value in record.items():
            number = len(value) if isinstance(value, list) else value
            if key not in ("step", "time_ms") and _is_number(number):
                points.append(MetricPoint(f"{prefix}{key}", number, record["step"], time_ms=record.get("time_ms")))
    return points


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
