"""Whether a model may be released: the rules of `params.yaml` applied to paired differences, with a reason for each.

The candidate stands where `Comparison` says aligned, what it would replace (the base or the champion) where it says base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from v2a_dpo.config import GatesConfig
from v2a_dpo.evaluation.bootstrap import Difference
from v2a_dpo.evaluation.metrics import METRICS, Comparison, Metric

_METRICS = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class RuleOutcome:
    """One rule: what it asks of which metric, whether that holds, and the numbers that say so."""

    metric: str
    demand: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """Whether all rules hold for a candidate against `reference`, and the outcome of each."""

    reference: str
    clips: int
    outcomes: tuple[RuleOutcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """What does not hold, one sentence a rule."""
        return [f"{item.metric} {item.demand}: {item.reason}" for item in self.outcomes if not item.passed]

    def to_dict(self) -> dict[str, Any]:
        """The decision as JSON values."""
        return {"passed": self.passed, **asdict(self)}

    @staticmethod
    def from_dict(content: dict[str, Any]) -> GateDecision:
        """The decision from what `to_dict` gave."""
        outcomes = tuple(RuleOutcome(**outcome) for outcome in content["outcomes"])
        return GateDecision(content["reference"], content["clips"], outcomes)

    def __str__(self) -> str:
        verdict = "The gates hold" if self.passed else "The gates do not hold"
        lines = [f"{verdict} against {self.reference} on {self.clips} clips."]
        lines += [
            f"  {'pass' if item.passed else 'FAIL'}  {item.metric} {item.demand}: {item.reason}"
            for item in self.outcomes
        ]
        return "\n".join(lines)


def decide(gates: GatesConfig, comparison: Comparison, *, reference: str) -> GateDecision:
    """The decision about the candidate in `comparison` against what is called `reference` there.

    A metric that must improve needs its whole interval on the better side of zero. One that must not worsen needs the worse
    end of its interval within the tolerance: too few clips to tell count as a failure, not as a pass.
    """
    return GateDecision(reference, comparison.clips, tuple(_outcomes(gates, comparison)))


def _outcomes(gates: GatesConfig, comparison: Comparison) -> Iterator[RuleOutcome]:
    enough = comparison.clips >= gates.min_clips
    yield RuleOutcome("clips", f"at least {gates.min_clips}", enough, f"{comparison.clips} were compared")
    for key in gates.must_improve:
        yield _judged(comparison, _METRICS[key], "must improve", tolerance=None)
    for key, tolerance in gates.must_not_worsen.items():
        shown = tolerance if isinstance(tolerance, str) else f"{tolerance:g} {_METRICS[key].unit}".strip()
        yield _judged(comparison, _METRICS[key], f"must not worsen by more than {shown}", tolerance=tolerance)


def _judged(comparison: Comparison, metric: Metric, demand: str, *, tolerance: str | float | None) -> RuleOutcome:
    change = comparison.differences.get(metric.key)
    if change is None:
        return RuleOutcome(metric.key, demand, False, "the evaluation did not measure it")
    sign = 1 if metric.higher_is_better else -1
    least_gain = min(sign * change.low, sign * change.high)
    if tolerance is None:
        return RuleOutcome(metric.key, demand, least_gain > 0, _numbers(change, metric))
    reference = comparison.intervals["base"][metric.key].value
    allowed = abs(reference) * float(tolerance[:-1]) / 100 if isinstance(tolerance, str) else tolerance
    reason = f"{_numbers(change, metric)}; {allowed:.4g} is tolerated"
    return RuleOutcome(metric.key, demand, least_gain >= -allowed, reason)


def _numbers(change: Difference, metric: Metric) -> str:
    direction = "higher" if metric.higher_is_better else "lower"
    value, low, high = (f"{number:+.4g}" for number in (change.value, change.low, change.high))
    return f"changed by {value} [{low}, {high}], {direction} is better"
