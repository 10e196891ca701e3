"""Stage: a version becomes champion if the gates hold against the present one, on the same test clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from v2a_dpo.artifacts.location import write_atomically
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison, compare_evaluated
from v2a_dpo.progress import Progress, silent
from v2a_dpo.registry.copies import copy_version, open_registry
from v2a_dpo.registry.evidence import Evidence, read_evidence
from v2a_dpo.registry.gates import GateDecision, both, decide, refusal, shown_bootstrap
from v2a_dpo.registry.ledger import Entry, Ledger, champions, check_reason
from v2a_dpo.registry.versions import Registry, StoredVersion
from v2a_dpo.tracking.failures import failures_reported

#: Tag of a version that the gates kept out: when it last was, and what did not hold.
REFUSED_TAG = "promotion.refused"


@dataclass(frozen=True)
class Promotion:
    """What came of the wish to make a version champion: whether it is now, what the gates said, and the ledger's entry.

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


def promote(
    params: Params,
    *,
    version: str = "candidate",
    override: bool = False,
    reason: str | None = None,
    to_registry: str | None = None,
    output: str | None = None,
    progress: Progress = silent,
) -> Promotion:
    """Makes `version` (a number or an alias) champion of `params.registry.model_name` if `params.gates` hold.

    It is compared with the champion and with the first champion, or with its own base while there is none. `override`
    promotes whatever the gates say, and needs a `reason`; both are recorded. `to_registry`, the name of a registered
    model or `URI/name` on another server, gets a copy of the version first and judges it against its own champion. The
    file `output` receives the outcome. A refusal is an outcome; raises LostRaceError when another promotion came in
    between, and UserError when there is no such version.
    """
    if override and reason is None:
        what = "An override needs a reason, which the history keeps."
        raise UserError(what, where="--override", remedy="Add --reason TEXT.")
    told = "" if reason is None else check_reason(reason)
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri):
        chosen = registry.version(version)
        if to_registry is not None:
            progress("Copying", 0, 1)
            registry, chosen = copy_version(params, registry, chosen, to=to_registry)
            progress("Copying", 1, 1)
    with failures_reported(registry.tracking.uri):
        promotion = _promote(params, registry, chosen, override=override, reason=told)
    if output is not None:
        write_atomically(output, (json.dumps(promotion.to_dict(), indent=2, allow_nan=False) + "\n").encode())
    return promotion


def _promote(params: Params, registry: Registry, chosen: StoredVersion, *, override: bool, reason: str) -> Promotion:
    ledger = Ledger(registry.tracking.client, registry.name)
    entries = ledger.entries()
    champion = champions(entries)[-1] if entries else ""
    if champion == chosen.version:
        ledger.settle()
        return Promotion(registry.name, chosen.version, True, champion, None, None)
    decision, comparison = _judge(params, registry, chosen, champions(entries))
    if not decision.passed and not override:
        registry.set_tags(chosen.version, {REFUSED_TAG: "; ".join(decision.failures)[:2000]})
        return Promotion(registry.name, chosen.version, False, champion, decision, None)
    entry = Entry(
        "promote",
        chosen.version,
        champion,
        reason or "the gates hold",
        reference=decision.reference,
        override=not decision.passed,
        failures=tuple(decision.failures),
        metrics={key: _shown(change) for key, change in comparison.differences.items()} if comparison else {},
        intervals=shown_bootstrap(decision.bootstrap) if decision.bootstrap else "",
    )
    written = ledger.append(entry, after=len(entries))
    return Promotion(registry.name, chosen.version, True, champion, decision, written)


def _judge(
    params: Params, registry: Registry, chosen: StoredVersion, standing: Sequence[str]
) -> tuple[GateDecision, Comparison | None]:
    """The gates' decision about `chosen`, and the comparison with the champion, None where there can be none.

    `standing` are the champions that a rollback can return to, the first one first. Its rules must hold against the
    first one too: what each promotion may lose would add up otherwise.
    """
    if not standing and chosen.role == "base":
        reason = "this is the base itself, and there is no champion yet"
        return refusal("nothing", "reference", "must exist", reason), None
    candidate = read_evidence(registry, chosen)
    if not standing:
        least = BootstrapSettings.of(params)
        return decide(params.gates, candidate.comparison, reference="its base", least=least), candidate.comparison
    champion, first = standing[-1], standing[0]
    decision, comparison = _against(params, registry, candidate, champion, f"champion version {champion}")
    if first not in (champion, chosen.version):
        reference = f"the first champion, version {first}"
        decision = both(decision, _against(params, registry, candidate, first, reference)[0])
    return decision, comparison


def _against(
    params: Params, registry: Registry, candidate: Evidence, version: str, reference: str
) -> tuple[GateDecision, Comparison | None]:
    """The decision about `candidate` against `version`, called `reference`, on the test clips that both made sound
    for."""
    remedy = f"evaluate version {version} like this one and register it again, or override with a reason"
    try:
        standing = read_evidence(registry, registry.version(version))
    except UserError as error:
        return refusal(reference, "evaluation", "must be there", f"{error.what} {remedy}"), None
    ours, theirs = candidate.evaluated.clips.clip_ids, standing.evaluated.clips.clip_ids
    held = frozenset(ours)
    common = [clip_id for clip_id in theirs if clip_id in held]
    unequal = _unequal(candidate, standing)
    if unequal or len(common) < params.evaluate.min_paired * max(len(ours), len(theirs)):
        shared = f"{len(common)} of the champion's {len(theirs)} clips are among this one's {len(ours)}"
        reason = "; ".join([*unequal, shared, remedy])
        return refusal(reference, "evaluation", f"must be that of {reference}", reason), None
    judged, kept = candidate.evaluated.select(common), standing.evaluated.select(common)
    comparison = compare_evaluated(
        kept.real_embedding,
        {"base": kept.clips, "aligned": judged.clips},
        BootstrapSettings.of(params),
        failed={
            "base": len(standing.failed - candidate.failed),
            "aligned": len(candidate.failed - standing.failed),
        },
    )
    return decide(params.gates, comparison, reference=reference, least=BootstrapSettings.of(params)), comparison


def _unequal(candidate: Evidence, standing: Evidence) -> list[str]:
    """What of the two evaluations differs, a sentence each; empty when they can be compared clip by clip."""
    theirs = standing.settings
    return [
        f"the {title} differs ({theirs[title]} and {value})"
        for title, value in candidate.settings.items()
        if theirs[title] != value
    ]


def _shown(change: Difference) -> str:
    return f"{change.value:+.4g} [{change.low:+.4g}, {change.high:+.4g}]"
