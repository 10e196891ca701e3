"""Changes of champion: promotion, if the gates hold on the same test clips, rollback, and their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison, compare
from v2a_dpo.registry.evidence import Evidence, read_evidence
from v2a_dpo.registry.gates import GateDecision, both, decide, refusal, shown_bootstrap
from v2a_dpo.registry.ledger import CHAMPION, Entry, Ledger, champions, check_reason
from v2a_dpo.registry.versions import Registry, StoredVersion, open_registry
from v2a_dpo.tracking.failures import failures_reported

#: Tag of a version that the gates refused: the rules that did not hold the last time.
REFUSED_TAG = "promotion.refused"


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion: whether the version is champion now, the gates' decision, and the ledger's entry.

    `decision` and `entry` are None when the version was champion already.
    """

    model_name: str
    version: str
    promoted: bool
    previous: str
    decision: GateDecision | None
    entry: Entry | None

    def to_dict(self) -> dict[str, Any]:
        """The promotion as JSON values."""
        decision = self.decision.to_dict() if self.decision else None
        return {**asdict(self), "decision": decision}

    def __str__(self) -> str:
        name = f"{self.model_name} version {self.version}"
        if self.decision is None:
            return f"{name} is champion already."
        if not self.promoted:
            return f"{self.decision}\n{name} is not promoted."
        how = f" by override ({self.entry.reason})" if self.entry and self.entry.override else ""
        return f"{self.decision}\n{name} is champion{how}; before: {self.previous or 'none'}."


def promote_version(
    params: Params, registry: Registry, version: StoredVersion, *, override: bool = False, reason: str = ""
) -> Promotion:
    """Makes `version` champion if the gates hold against the champion and the first champion, or with `override`.

    A refusal is stored as a tag of the version. Raises LostRaceError when another promotion was faster.
    """
    ledger = Ledger(registry.tracking.client, registry.name)
    entries = ledger.entries()
    champion = champions(entries)[-1] if entries else ""
    if champion == version.version:
        ledger.settle()
        return Promotion(registry.name, version.version, True, champion, None, None)
    decision, changes = _judge(params, registry, version, champions(entries))
    if not decision.passed and not override:
        registry.set_tags(version.version, {REFUSED_TAG: "; ".join(decision.failures)[:2000]})
        return Promotion(registry.name, version.version, False, champion, decision, None)
    entry = Entry(
        "promote",
        version.version,
        champion,
        reason or "the gates hold",
        reference=decision.reference,
        override=not decision.passed,
        failures=tuple(decision.failures),
        metrics={key: _shown(change) for key, change in changes.items()},
        intervals=shown_bootstrap(decision.bootstrap) if decision.bootstrap else "",
    )
    written = ledger.append(entry, after=len(entries))
    return Promotion(registry.name, version.version, True, champion, decision, written)


def rollback(params: Params, *, reason: str) -> Entry:
    """Makes the previous champion champion again, and returns the ledger's entry.

    Raises UserError without a previous champion, and LostRaceError when another change of champion was faster.
    """
    reason = check_reason(reason)
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri):
        ledger = Ledger(registry.tracking.client, registry.name)
        entries = ledger.entries()
        earlier = champions(entries)
        if len(earlier) < 2:
            what = f"{registry.name} has no champion before the present one."
            raise UserError(what, where=CHAMPION, remedy="Promote another version with `v2a-dpo promote`.")
        return ledger.append(Entry("rollback", earlier[-2], earlier[-1], reason), after=len(entries))


def _judge(
    params: Params, registry: Registry, version: StoredVersion, earlier: Sequence[str]
) -> tuple[GateDecision, Mapping[str, Difference]]:
    """The gates' decision about `version`, and its differences to the champion by metric, none without a comparison.

    `earlier` are the champions that a rollback can return to, the first one first. The rules must hold against the
    first one too: the small losses that each promotion may bring would add up otherwise.
    """
    if not earlier and version.role == "base":
        reason = "this is the base itself, and there is no champion yet"
        return refusal("nothing", "reference", "must exist", reason), {}
    candidate = read_evidence(registry, version)
    if not earlier:
        return _decide(params, candidate.comparison, version.role, "its base")
    champion, first = earlier[-1], earlier[0]
    decision, changes = _against(params, registry, candidate, champion, f"champion version {champion}")
    if first not in (champion, version.version):
        reference = f"the first champion, version {first}"
        decision = both(decision, _against(params, registry, candidate, first, reference)[0])
    return decision, changes


def _decide(
    params: Params, comparison: Comparison, candidate: str, reference: str
) -> tuple[GateDecision, Mapping[str, Difference]]:
    """The decision about the system `candidate` of `comparison`, and its differences by metric."""
    least = BootstrapSettings.of(params)
    decision = decide(params.gates, comparison, candidate=candidate, reference=reference, least=least)
    return decision, comparison.differences[candidate]


def _against(
    params: Params, registry: Registry, candidate: Evidence, version: str, reference: str
) -> tuple[GateDecision, Mapping[str, Difference]]:
    """The decision about `candidate` against `version`, called `reference`, on the test clips that both made sound
    for, and the differences by metric."""
    remedy = f"evaluate version {version} like this one and register it again, or override with a reason"
    try:
        champion = read_evidence(registry, registry.version(version))
    except UserError as error:
        return refusal(reference, "evaluation", "must exist", f"{error.what} {remedy}"), {}
    ours, theirs = frozenset(candidate.evaluated.clip_ids), champion.evaluated.clip_ids
    common = [clip_id for clip_id in theirs if clip_id in ours]
    differences = _setting_differences(candidate, champion)
    if differences or len(common) < params.evaluate.min_paired * max(len(ours), len(theirs)):
        shared = f"{len(common)} of the champion's {len(theirs)} clips are among this one's {len(ours)}"
        reason = "; ".join([*differences, shared, remedy])
        return refusal(reference, "evaluation", f"must be that of {reference}", reason), {}
    comparison = compare(
        {"champion": champion.evaluated.select(common), "candidate": candidate.evaluated.select(common)},
        BootstrapSettings.of(params),
        reference="champion",
        failed={"champion": champion.failed, "candidate": candidate.failed},
    )
    return _decide(params, comparison, "candidate", reference)


def _setting_differences(candidate: Evidence, champion: Evidence) -> list[str]:
    """One sentence per setting in which the two evaluations differ; empty when they can be compared clip by clip."""
    theirs = champion.settings
    return [
        f"the {title} differs ({theirs[title]} and {value})"
        for title, value in candidate.settings.items()
        if theirs[title] != value
    ]


def _shown(change: Difference) -> str:
    return f"{change.value:+.4g} [{change.low:+.4g}, {change.high:+.4g}]"


@dataclass(frozen=True)
class History:
    """All changes of champion of a registered model, oldest first, and the version of the alias ("" for none)."""

    model_name: str
    entries: tuple[Entry, ...]
    alias: str

    @property
    def champion(self) -> str:
        """The present champion by the ledger, "" before the first promotion."""
        return champions(self.entries)[-1] if self.entries else ""

    def __str__(self) -> str:
        if not self.entries:
            return f"{self.model_name} has had no champion."
        lines = [f"{self.model_name}: version {self.champion} is champion."]
        if self.alias != self.champion:
            target = f"version {self.alias}" if self.alias else "nothing"
            remedy = f"`v2a-dpo promote {self.champion}` corrects it."
            lines.append(f"The alias {CHAMPION} points at {target}, unlike the ledger: {remedy}")
        for number, entry in enumerate(self.entries, start=1):
            lines += _lines(number, entry)
        return "\n".join(lines)


def history(params: Params) -> History:
    """The changes of champion of the registered model, with time, user and reason."""
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri):
        ledger = Ledger(registry.tracking.client, registry.name)
        return History(registry.name, tuple(ledger.entries()), ledger.alias() or "")


def _lines(number: int, entry: Entry) -> list[str]:
    done = "rolled back to" if entry.action == "rollback" else "OVERRIDE, promoted" if entry.override else "promoted"
    instead = f" instead of version {entry.previous}" if entry.previous else ""
    lines = [f"{number}. {entry.when} {entry.who} {done} version {entry.version}{instead}: {entry.reason}"]
    lines += [f"   did not hold: {failure}" for failure in entry.failures]
    if entry.intervals:
        lines.append(f"   judged by {entry.intervals}")
    against = f"champion version {entry.previous}" if entry.previous else entry.reference
    lines += [f"   against {against}: {key} {change}" for key, change in entry.metrics.items()]
    return lines
