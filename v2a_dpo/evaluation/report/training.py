"""The report's section on the alignment's course, out of its log: one record per step, validation measures in some."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from v2a_dpo.evaluation.report.charts import Axes, Point, Series, line_chart, running_mean
from v2a_dpo.evaluation.report.page import ReportSection

TrainingRecord = Mapping[str, Any]

_SMOOTHED_SHARE = 20


def training_section(log: Sequence[TrainingRecord]) -> ReportSection:
    """Loss, implicit accuracy, error differences, margin and gradient norm over the steps."""
    steps = [record for record in log if "loss" in record]
    validation = [record for record in log if "validation_loss" in record]
    marks = _phase_starts(steps)

    def chart(title: str, unit: str, *lines: list[Series], y_range: tuple[float, float] | None = None) -> str:
        return line_chart([*chain(*lines)], Axes(title, "step", unit, marks=marks, y_range=y_range))

    def training(key: str, name: str = "Training", css_class: str = "first") -> list[Series]:
        points = _points(steps, key)
        mean = running_mean(points, width=max(1, len(points) // _SMOOTHED_SHARE))
        return [Series(name, css_class, points, faint=True), Series(name, css_class, mean)]

    def both(key: str) -> list[Series]:
        points = _points(validation, f"validation_{key}")
        return [*training(key), *([Series("Validation", "second", points, dots=True)] if points else [])]

    charts = [
        chart("Flow-DPO loss", "nats", both("loss")),
        chart("Implicit accuracy", "share of pairs", both("implicit_accuracy"), y_range=(0.0, 1.0)),
        chart(
            "Error, policy minus reference",
            "mean squared error",
            training("winner_difference", "Winner"),
            training("loser_difference", "Loser", "second"),
        ),
        chart("Margin (argument of the sigmoid)", "", both("margin")),
        chart("Gradient norm before clipping", "", training("gradient_norm", "")),
        chart("Learning rate", "", [Series("", "first", _points(steps, "learning_rate"))]),
    ]
    return ReportSection(
        "training",
        "Training curves",
        f"{len(steps)} steps of curriculum Flow-DPO. {_before_and_after(validation)}At the start policy and reference "
        f"are equal: the loss is ln 2 = {math.log(2):.4f}. It may stay above while accuracy rises, because the pairs "
        f"that remain wrong are confidently wrong.{_alarms(log)}",
        charts,
    )


def _points(records: Sequence[TrainingRecord], key: str) -> list[Point]:
    return [(record["step"], record[key]) for record in records]


def _phase_starts(steps: Sequence[TrainingRecord]) -> list[tuple[float, str]]:
    """Where a phase other than the first begins."""
    return [
        (after["step"], f"{after['phase']} pairs")
        for before, after in pairwise(steps)
        if before["phase"] != after["phase"]
    ]


def _before_and_after(validation: Sequence[TrainingRecord]) -> str:
    if len(validation) < 2:
        return ""
    before, after = validation[0]["validation_implicit_accuracy"], validation[-1]["validation_implicit_accuracy"]
    return f"Implicit accuracy on validation pairs went from {before:.3f} to {after:.3f}. "


def _alarms(log: Sequence[TrainingRecord]) -> str:
    counts = Counter(alarm for record in log for alarm in record["alarms"])
    return "".join(f" Alarm: {alarm} ({count} steps)." for alarm, count in counts.items())
