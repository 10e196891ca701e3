"""Release gates: the rules of `params.yaml` applied to paired differences, with a reason for each outcome."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from v2a_dpo.config import GatesConfig
from v2a_dpo.evaluation.bootstrap import Difference
from v2a_dpo.evaluation.metrics import METRICS, BootstrapSettings, Comparison, Metric

_METRICS = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class RuleOutcome:
    """The outcome of one rule: metric, demand, whether it holds, and the numbers behind that."""

    metric: str
    demand: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """The outcome of every rule for a candidate against `reference`, and the settings of the intervals.

    `bootstrap` is None where nothing was compared.
    """

    reference: str
    clips: int
    outcomes: tuple[RuleOutcome, ...]
    bootstrap: BootstrapSettings | None

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """One sentence per rule that does not hold."""
        return [f"{item.metric} {item.demand}: {item.reason}" for item in self.outcomes if not item.passed]

    def to_dict(self) -> dict[str, Any]:
        """The decision as JSON values."""
        return {"passed": self.passed, **asdict(self)}

    @staticmethod
    def from_dict(content: dict[str, Any]) -> GateDecision:
        """The decision from the result of `to_dict`."""
        return TypeAdapter(GateDecision).validate_python(content)

    def __str__(self) -> str:
        verdict = "The gates hold" if self.passed else "The gates do not hold"
        made = f" ({shown_bootstrap(self.bootstrap)})" if self.bootstrap else ""
        lines = [f"{verdict} against {self.reference} on {self.clips} clips{made}."]
        lines += [
            f"  {'pass' if item.passed else 'FAIL'}  {item.metric} {item.demand}: {item.reason}"
            for item in self.outcomes
        ]
        return "\n".join(lines)


def refusal(reference: str, rule: str, demand: str, reason: str) -> GateDecision:
    """The decision without a comparison with `reference`."""
    return GateDecision(reference, 0, (RuleOutcome(rule, demand, False, reason),), None)


def both(first: GateDecision, second: GateDecision) -> GateDecision:
    """The decision that holds when both hold; each reason names its reference."""
    outcomes = [
        replace(outcome, reason=f"against {decision.reference}: {outcome.reason}")
        for decision in (first, second)
        for outcome in decision.outcomes
    ]
    reference, clips = f"{first.reference} and {second.reference}", min(first.clips, second.clips)
    return GateDecision(reference, clips, tuple(outcomes), first.bootstrap or second.bootstrap)


def shown_bootstrap(bootstrap: BootstrapSettings) -> str:
    """The settings of intervals as a phrase."""
    return (
        f"{100 * bootstrap.confidence:g}% intervals of {bootstrap.resamples} resamples, {bootstrap.fd_resamples} for FD"
    )


def decide(
    gates: GatesConfig, comparison: Comparison, *, candidate: str, reference: str, least: BootstrapSettings
) -> GateDecision:
    """The decision about the system `candidate` of `comparison` against its reference system, called `reference` there.

    The comparison's intervals must be of the confidence of `least` and of as many resamples, or more.

    A metric that must improve needs its whole interval on the better side of zero. One that must not worsen needs the
    worse end of its interval within the tolerance: an interval of too few clips is a failure, not a pass.
    """
    outcomes = tuple(_outcomes(gates, comparison, candidate, least))
    return GateDecision(reference, comparison.clips, outcomes, comparison.bootstrap)


def _outcomes(
    gates: GatesConfig, comparison: Comparison, candidate: str, least: BootstrapSettings
) -> Iterator[RuleOutcome]:
    enough = comparison.clips >= gates.min_clips
    yield RuleOutcome("clips", f"at least {gates.min_clips}", enough, f"{comparison.clips} were compared")
    yield _intervals_made(comparison.bootstrap, least)
    yield _failures(gates, comparison, candidate)
    for key in gates.must_improve:
        yield _judged(gates, comparison, candidate, _METRICS[key], "must improve", tolerance=None)
    for key, tolerance in gates.must_not_worsen.items():
        shown = tolerance if isinstance(tolerance, str) else f"{tolerance:g} {_METRICS[key].unit}".strip()
        demand = f"must not worsen by more than {shown}"
        yield _judged(gates, comparison, candidate, _METRICS[key], demand, tolerance=tolerance)


def _intervals_made(made: BootstrapSettings, least: BootstrapSettings) -> RuleOutcome:
    enough = (
        made.confidence >= least.confidence
        and made.resamples >= least.resamples
        and made.fd_resamples >= least.fd_resamples
    )
    return RuleOutcome("intervals", f"at least {shown_bootstrap(least)}", enough, f"they are {shown_bootstrap(made)}")


def _failures(gates: GatesConfig, comparison: Comparison, candidate: str) -> RuleOutcome:
    """Both shares are of the clips that one system or both made sound for."""
    theirs, ours = comparison.failed[comparison.reference], comparison.failed[candidate]
    tried = comparison.clips + theirs + ours
    return RuleOutcome(
        "failed clips",
        f"at most {100 * gates.max_more_failures:g}% more than the reference",
        ours - theirs <= gates.max_more_failures * tried,
        f"{ours} of {tried} against {theirs}",
    )


def _judged(
    gates: GatesConfig,
    comparison: Comparison,
    candidate: str,
    metric: Metric,
    demand: str,
    *,
    tolerance: str | float | None,
) -> RuleOutcome:
    change = comparison.differences[candidate].get(metric.key)
    if change is None:
        return RuleOutcome(metric.key, demand, False, "the evaluation did not measure it")
    if comparison.counts[metric.key] < gates.min_clips:
        reason = f"only {comparison.counts[metric.key]} clips have it, at least {gates.min_clips} are needed"
        return RuleOutcome(metric.key, demand, False, reason)
    sign = 1 if metric.higher_is_better else -1
    least_gain = min(sign * change.low, sign * change.high)
    if tolerance is None:
        return RuleOutcome(metric.key, demand, least_gain > 0, _numbers(change, metric))
    reference = comparison.systems[comparison.reference][metric.key].value
    allowed = abs(reference) * float(tolerance[:-1]) / 100 if isinstance(tolerance, str) else tolerance
    reason = f"{_numbers(change, metric)}; {allowed:.4g} is tolerated"
    return RuleOutcome(metric.key, demand, least_gain >= -allowed, reason)


def _numbers(change: Difference, metric: Metric) -> str:
    direction = "higher" if metric.higher_is_better else "lower"
    value, low, high = (f"{number:+.4g}" for number in (change.value, change.low, change.high))
    return f"changed by {value} [{low}, {high}], {direction} is better"
