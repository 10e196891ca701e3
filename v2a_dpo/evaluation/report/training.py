"""The report's section on the alignment's course, out of its log: one record a step, validation measures in some."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
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
    charts = [
        line_chart(
            [
                *_smoothed(steps, "loss", "Training", "first"),
                *_measured(validation, "validation_loss", "Validation", "second"),
            ],
            Axes("Flow-DPO loss", "step", "nats", marks=marks),
        ),
        line_chart(
            [
                *_smoothed(steps, "implicit_accuracy", "Training", "first"),
                *_measured(validation, "validation_implicit_accuracy", "Validation", "second"),
            ],
            Axes("Implicit accuracy", "step", "share of pairs", marks=marks, y_range=(0.0, 1.0)),
        ),
        line_chart(
            [
                *_smoothed(steps, "winner_difference", "Winner", "first"),
                *_smoothed(steps, "loser_difference", "Loser", "second"),
            ],
            Axes("Error, policy minus reference", "step", "mean squared error", marks=marks),
        ),
        line_chart(
            [
                *_smoothed(steps, "margin", "Training", "first"),
                *_measured(validation, "validation_margin", "Validation", "second"),
            ],
            Axes("Margin (argument of the sigmoid)", "step", "", marks=marks),
        ),
        line_chart(
            _smoothed(steps, "gradient_norm", "", "first"),
            Axes("Gradient norm before clipping", "step", "", marks=marks),
        ),
        line_chart(
            [Series("", "first", [(record["step"], record["learning_rate"]) for record in steps])],
            Axes("Learning rate", "step", "", marks=marks),
        ),
    ]
    return ReportSection(
        "training",
        "Training curves",
        f"{len(steps)} steps of curriculum Flow-DPO. {_before_and_after(validation)}At the start policy "
        "and reference are equal: "
        f"the loss is ln 2 = {math.log(2):.4f}. It may stay above while accuracy rises, because the "
        "pairs that remain wrong "
        f"are confidently wrong.{_alarms(log)}",
        charts,
    )


def _smoothed(steps: Sequence[TrainingRecord], key: str, name: str, css_class: str) -> list[Series]:
    points: list[Point] = [(record["step"], record[key]) for record in steps]
    width = max(1, len(points) // _SMOOTHED_SHARE)
    return [Series(name, css_class, points, faint=True), Series(name, css_class, running_mean(points, width=width))]


def _measured(records: Sequence[TrainingRecord], key: str, name: str, css_class: str) -> list[Series]:
    return (
        [Series(name, css_class, [(record["step"], record[key]) for record in records], dots=True)] if records else []
    )


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
