"""A version's model card in Markdown: purpose, data, method, metrics, limits, licence, origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from v2a_dpo.artifacts.schema import SIMULATED_RATER
from v2a_dpo.config import Params
from v2a_dpo.evaluation.metrics import METRICS, Comparison, verdict
from v2a_dpo.evaluation.sampling import shown_setting
from v2a_dpo.evaluation.tables import remarks
from v2a_dpo.registry.gates import GateDecision
from v2a_dpo.registry.lineage import Lineage
from v2a_dpo.weights.provenance import LicenceFlags

_ALLOWED = {
    "allowed": "allowed",
    "forbidden": "**forbidden**: weights inside are licensed for non-commercial use only",
    "unknown": "**unknown**: some bundled weights have no stated licence, or scorers that are not free "
    "chose the pairs; "
    "treat the model as not for commercial use",
}


def model_card(
    params: Params,
    *,
    role: str,
    comparison: Comparison,
    summary: Mapping[str, Any],
    licence: LicenceFlags,
    lineage: Lineage,
    decision: GateDecision | None,
) -> str:
    """The card of the model in `role` (`base` or `aligned`)."""
    kept = lineage.nodes[0].kept
    parts = [
        f"# {params.registry.model_name}, {role} model",
        _purpose(params, role),
        "## Data",
        _data(lineage) or "Nothing was recorded about the training data.",
        "## Method",
        _method(params, role),
        "## Metrics",
        _metrics(comparison, summary, role),
        "## Release gates",
        f"```\n{decision}\n```" if decision and role == "aligned" else "Not judged.",
        "## Limits",
        _limits(params, comparison, summary, role),
        "## Licence",
        _licence(licence),
        "## Origin",
        f"Model fingerprint {lineage.nodes[0].fingerprint}, code commit "
        f"{lineage.code.get('mlflow.source.git.commit', 'unknown')}, parameters {lineage.params}"
        f"{kept and f'; {kept}'}. `v2a-dpo lineage` shows every data set and shard behind it.",
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(params: Params, role: str) -> str:
    generator = f"{params.generator.family}/{params.generator.variant}"
    if role == "base":
        return f"Generates sound for silent video. The generator {generator} before preference alignment."
    return f"Generates sound for silent video. The generator {generator} aligned with human preferences by Flow-DPO."


def _data(lineage: Lineage) -> str:
    sets = [node for node in lineage.nodes if node.rows is not None]
    lines = [f"| {node.name} | {node.rows} | {node.fingerprint} |" for node in sets]
    if not lines:
        return ""
    kept = [f"\n{node.name}: {node.kept}." for node in sets if node.kept]
    return "\n".join(["| data set | rows | fingerprint |", "| --- | --- | --- |", *lines, *kept])


def _method(params: Params, role: str) -> str:
    if role == "base":
        return "The starting point of the alignment, unchanged."
    align = params.align
    order = "easy pairs first" if align.curriculum else "all pairs mixed"
    return (
        f"Flow-DPO with beta {align.beta:g}, learning rate {align.learning_rate:g}, {align.steps} steps of "
        f"{align.batch_size} pairs, {order}; pairs are the best and the worst of "
        f"{params.generate.candidates} candidates "
        f"per clip by AudioScore over five scores ({params.score.scorers} scorers). See docs/paper.md."
    )


def _metrics(comparison: Comparison, summary: Mapping[str, Any], role: str) -> str:
    sampling = summary["sampling"]
    lines = [f"| metric | value | against the {comparison.reference} |", "| --- | --- | --- |"]
    for metric in METRICS:
        if metric.key not in comparison.systems[role]:
            continue
        own, against = comparison.systems[role][metric.key], ""
        value = f"{own.value:.{metric.decimals}f} [{own.low:.{metric.decimals}f}, {own.high:.{metric.decimals}f}]"
        if role in comparison.differences:
            change = comparison.differences[role][metric.key]
            shown = [f"{number:+.{metric.decimals}f}" for number in (change.value, change.low, change.high)]
            against = f"{shown[0]} [{shown[1]}, {shown[2]}] {verdict(metric, change)}"
        lines.append(f"| {metric.title} {'↑' if metric.higher_is_better else '↓'} | {value} | {against} |")
    return "\n".join(
        [
            f"{comparison.clips} test clips, guidance scale {shown_setting(sampling, 'guidance_scale')}, "
            f"{shown_setting(sampling, 'steps')} steps, text prompts {shown_setting(sampling, 'use_text')}, "
            f"{100 * comparison.bootstrap.confidence:g}% bootstrap intervals over clips. "
            f"{remarks(comparison, summary['differences'])}",
            "",
            *lines,
        ]
    )


def _limits(params: Params, comparison: Comparison, summary: Mapping[str, Any], role: str) -> str:
    limits: list[str] = [
        f"Trained and evaluated on excerpts of {params.prepare.duration_s:g} s; longer ones were not evaluated.",
        "Evaluated with automatic metrics, not listeners. Intervals cover variation over clips, not over seeds.",
    ]
    if params.profile == "tiny":
        limits.append("A procedural world with small networks: on real footage it makes noise of the right length.")
    if summary.get("rater") == SIMULATED_RATER:
        limits.append("Ratings come from a simulated rater, not from people.")
    limits += [f"{title} is worse than the {comparison.reference}'s." for title in _worse(comparison, role)]
    return "\n".join(f"- {limit}" for limit in limits)


def _worse(comparison: Comparison, role: str) -> Sequence[str]:
    changes = comparison.differences.get(role, {})
    return [item.title for item in METRICS if item.key in changes and verdict(item, changes[item.key]) == "worse"]


def _licence(licence: LicenceFlags) -> str:
    lines = [f"Commercial use: {_ALLOWED[licence.commercial_use]}.", ""]
    lines += [f"- {name}: {text}" for name, text in licence.weights.items()]
    if licence.scorers:
        lines += ["", "The pairs were chosen with these networks, which are not inside the model:", ""]
        lines += [f"- {name}: {text}" for name, text in licence.scorers.items()]
    return "\n".join(lines)
