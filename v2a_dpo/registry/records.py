"""What the register stage tells MLflow about a finished loop, read from the loop's artifacts before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import exists, join, read_bytes
from v2a_dpo.artifacts.manifest import MANIFEST
from v2a_dpo.evaluation.folder import CURVE, EvaluationFolder
from v2a_dpo.tracking.run import DataInput
from v2a_dpo.tracking.source import dvc_hashes
from v2a_dpo.tracking.values import MetricPoint, curve, numbers

#: The stage that makes each kind of data set, in the loop's order.
_MAKERS = {
    "clips": "prepare",
    "conditions": "prepare",
    "candidates": "generate",
    "scores": "score",
    "ratings": "annotate",
}


@dataclass
class StageRecord:
    """One nested run: metrics, data sets used, and files by name."""

    metrics: list[MetricPoint] = field(default_factory=list)
    data: list[DataInput] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def digest(self) -> list[Any]:
        """What the record holds, for a fingerprint; a data set counts by its content, wherever it lies."""
        return [
            [[point.key, point.value, point.step] for point in self.metrics],
            [[item.name, item.digest, item.context] for item in self.data],
            self.files,
        ]


def stage_records(
    *,
    evaluation: str,
    guidance: str | None,
    alignment: str | None,
    audioscore: str | None,
    pairs: str | None,
    training_data: Sequence[str],
    evaluation_data: Sequence[str],
    ancestors: Sequence[str] = (),
) -> dict[str, StageRecord]:
    """The records of the stages whose artifacts are given, in the loop's order; of `ancestors` the data sets count."""
    records = _data_records([*ancestors, *training_data, *evaluation_data])
    if audioscore is not None:
        records["train-audioscore"] = _audioscore(join(audioscore, "metrics.json"))
    if pairs is not None:
        summary = f"{pairs.rstrip('/')}-summary.json"
        content = _read_json(summary)
        content.pop("histogram")
        records["mine"] = StageRecord(numbers(content), *_data([pairs], "pairs"))
        records["mine"].files["summary.json"] = _read_text(summary)
    if alignment is not None:
        training = [*([pairs] if pairs else []), *training_data]
        log = _read_text(join(alignment, "log.jsonl"))
        records["align"] = StageRecord(curve(map(json.loads, log.splitlines())), *_data(training, "training"))
        records["align"].files |= {
            "log.jsonl": log,
            "run.json": _read_text(join(alignment, "run.json")),
            "summary.json": _read_text(join(alignment, "summary.json")),
        }
    folder = EvaluationFolder(evaluation)
    records["evaluate"] = StageRecord(list(interval_points(folder.metrics())), *_data(evaluation_data, "evaluation"))
    records["evaluate"].files |= folder.texts()
    if guidance is not None:
        records["guidance"] = StageRecord(files={CURVE: _read_text(join(guidance, CURVE))})
    return records


def _data_records(folders: Sequence[str]) -> dict[str, StageRecord]:
    """A record for each stage and split behind the data sets in `folders`: `prepare preference`, `annotate` and so on."""
    datasets = [(uri, Dataset.open(uri).manifest) for uri in dict.fromkeys(folders) if exists(join(uri, MANIFEST))]
    records: dict[str, StageRecord] = {}
    for kind, stage in _MAKERS.items():
        for uri, manifest in datasets:
            if manifest.schema_name != kind:
                continue
            split = uri.rstrip("/").rsplit("/", 1)[-1]
            record = records.setdefault(stage if split == kind else f"{stage} {split}", StageRecord())
            counts = {
                "rows": manifest.rows,
                "quarantined": manifest.quarantined,
                "shards": len(manifest.shards),
                "bytes": sum(shard.num_bytes for shard in manifest.shards),
            }
            record.metrics += numbers(counts, f"{kind}/")
            inputs, manifests = _data([uri], "output")
            record.data += inputs
            record.files |= manifests
    return records


def interval_points(metrics: Mapping[str, Any]) -> Iterator[MetricPoint]:
    """Metrics with intervals: `base/ib_score`, `base/ib_score_low`, `base/ib_score_high` and so on; levels:
    `base/rms`."""
    yield from numbers(metrics.get("levels", {}))
    for point in numbers({key: value for key, value in metrics.items() if key != "levels"}):
        path, _, part = point.key.rpartition("/")
        yield MetricPoint(path if part == "value" else f"{path}_{part}".lstrip("_"), point.value)


def metric_tags(metrics: Mapping[str, Any], role: str) -> dict[str, str]:
    """A model's metrics as text with their intervals, and for the aligned model the differences to the base."""
    sections = {"metric": metrics[role]}
    if role == "aligned":
        sections["difference"] = metrics["difference"]
        if "win_rate" in metrics:
            sections["metric"] = {**metrics[role], "win_rate": metrics["win_rate"]}
    return {
        f"{section}.{key}": f"{item['value']:.4g} [{item['low']:.4g}, {item['high']:.4g}]"
        for section, items in sections.items()
        for key, item in items.items()
    }


def _audioscore(uri: str) -> StageRecord:
    content = _read_json(uri)
    history = content.pop("history")
    columns = {name: values for name, values in history.items() if isinstance(values, list)}
    steps = range(max(map(len, columns.values()), default=0))
    records = ({"step": step, **{name: values[step] for name, values in columns.items()}} for step in steps)
    points = [point for part in ("held_out", "training") for point in _measures(content[part], f"{part}/")]
    points += numbers(content["ablation"], "ablation/")
    points.append(MetricPoint("best_step", history["best_step"]))
    return StageRecord([*points, *curve(records, prefix="history/")], files={"metrics.json": _read_text(uri)})


def _measures(measures: Mapping[str, Any], prefix: str) -> list[MetricPoint]:
    """The single numbers among the measures; calibration and confusion are in the file."""
    return numbers({key: value for key, value in measures.items() if not isinstance(value, dict | list)}, prefix)


def _data(folders: Sequence[str], context: str) -> tuple[list[DataInput], dict[str, str]]:
    """Data set inputs, and their manifests, in which every shard's checksum and the inputs' fingerprints stand."""
    inputs, manifests = [], {}
    for folder in folders:
        dataset = Dataset.open(folder)
        kind, last = dataset.manifest.schema_name, folder.rstrip("/").rsplit("/", 1)[-1]
        name = kind if kind == last else f"{kind}/{last}"
        dvc_md5 = dvc_hashes().get(str(Path(folder).absolute()), "")
        inputs.append(DataInput(name, folder, dataset.fingerprint, context, dvc_md5))
        manifests[f"manifests/{name}.json"] = _read_text(join(folder, MANIFEST))
    return inputs, manifests


def _read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def _read_text(uri: str) -> str:
    return read_bytes(uri).decode()
