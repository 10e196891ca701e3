"""The description of a version: tags to search by, the model card, and the texts of its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from v2a_dpo.artifacts.json_files import json_text, read_json
from v2a_dpo.config import Params
from v2a_dpo.evaluation.bootstrap import Interval
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.registry.evidence import CARD, GATE, LINEAGE, TEST_SET_TAG
from v2a_dpo.registry.gates import GateDecision
from v2a_dpo.registry.lineage import Lineage
from v2a_dpo.registry.model_card import model_card
from v2a_dpo.registry.versions import ModelFolder
from v2a_dpo.weights.provenance import licence_flags

#: Tag of an aligned version: `passed`, or the rules that did not hold against its base.
GATE_TAG = "gate"
_LONGEST_TAG = 2000


@dataclass(frozen=True)
class VersionDescription:
    """Tags of a version, its model card, and its evidence by file name."""

    tags: dict[str, str]
    texts: Mapping[str, str]

    @property
    def card(self) -> str:
        """The model card in Markdown."""
        return self.texts[CARD]


def describe_version(
    params: Params, model: ModelFolder, *, evaluation: str, lineage: Lineage, decision: GateDecision | None
) -> VersionDescription:
    """Describes `model` from its configuration, the `evaluation` folder, its lineage and the gates' decision."""
    folder = EvaluationFolder(evaluation)
    comparison, summary = folder.comparison(), folder.summary()
    config = read_json(model.folder / "config.json")
    licence = licence_flags(config, scorers=params.score.scorers)
    card = model_card(
        params,
        role=model.role,
        comparison=comparison,
        summary=summary,
        licence=licence,
        lineage=lineage,
        decision=decision,
    )
    tags = {**metric_tags(comparison, model.role), **licence.tags(), TEST_SET_TAG: summary["test_set"]}
    evaluated = {name: folder.text(name) for name in (folder.METRICS, folder.SUMMARY)}
    texts = {**evaluated, CARD: card, LINEAGE: lineage.to_text()}
    if decision is not None and model.role == "aligned":
        tags[GATE_TAG] = "passed" if decision.passed else "; ".join(decision.failures)[:_LONGEST_TAG]
        texts[GATE] = json_text(decision.to_dict())
    return VersionDescription(tags, texts)


def metric_tags(comparison: Comparison, system: str) -> dict[str, str]:
    """The metrics of `system` as text with their intervals, and its differences to the reference system, if any."""
    intervals: dict[str, Interval] = {f"metric.{key}": item for key, item in comparison.systems[system].items()}
    if system in comparison.win_rate:
        intervals["metric.win_rate"] = comparison.win_rate[system]
    intervals |= {f"difference.{key}": item for key, item in comparison.differences.get(system, {}).items()}
    return {name: f"{item.value:.4g} [{item.low:.4g}, {item.high:.4g}]" for name, item in intervals.items()}
