"""The nested runs of a finished loop, one per stage, read from its artifacts before anything is sent to MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.json_files import read_json
from v2a_dpo.artifacts.location import exists, join, read_bytes
from v2a_dpo.artifacts.manifest import MANIFEST
from v2a_dpo.evaluation.bootstrap import Interval
from v2a_dpo.evaluation.folder import CURVE, EvaluationFolder
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.registry.lineage import dataset_name
from v2a_dpo.tracking.run import DataInput, TrackedRun
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
        """The record's content for a fingerprint; of a data set its own fingerprint, not its place."""
        return [
            [[point.key, point.value, point.step] for point in self.metrics],
            [[item.name, item.digest, item.context] for item in self.data],
            self.files,
        ]

    def log(self, run: TrackedRun) -> None:
        """Logs everything to `run`."""
        run.log_metrics(self.metrics)
        run.log_data(self.data)
        for name, content in self.files.items():
            run.log_text(content, name)


@dataclass(frozen=True)
class LoopArtifacts:
    """The folders of a finished loop, and its `report` file; None for a stage that did not run.

    `training_data` and `evaluation_data` are data sets to record as inputs, `ancestors` further data sets and models
    that the lineage may lead to.
    """

    base: str
    aligned: str
    evaluation: str
    report: str
    guidance: str | None = None
    alignment: str | None = None
    audioscore: str | None = None
    pairs: str | None = None
    training_data: Sequence[str] = ()
    evaluation_data: Sequence[str] = ()
    ancestors: Sequence[str] = ()


def stage_records(loop: LoopArtifacts) -> dict[str, StageRecord]:
    """The records of the stages whose artifacts are given, in the loop's order; of the ancestors, the data sets."""
    records = _data_records([*loop.ancestors, *loop.training_data, *loop.evaluation_data])
    if loop.audioscore is not None:
        records["train-audioscore"] = _audioscore(join(loop.audioscore, "metrics.json"))
    if loop.pairs is not None:
        summary = f"{loop.pairs.rstrip('/')}-summary.json"
        content = read_json(summary)
        content.pop("histogram")
        records["mine"] = StageRecord(numbers(content), *_data([loop.pairs], "pairs"))
        records["mine"].files["summary.json"] = _read_text(summary)
    if loop.alignment is not None:
        training = [*([loop.pairs] if loop.pairs else []), *loop.training_data]
        files = {name: _read_text(join(loop.alignment, name)) for name in ("log.jsonl", "run.json", "summary.json")}
        points = curve(map(json.loads, files["log.jsonl"].splitlines()))
        records["align"] = StageRecord(points, *_data(training, "training"))
        records["align"].files |= files
    folder = EvaluationFolder(loop.evaluation)
    data, manifests = _data(loop.evaluation_data, "evaluation")
    records["evaluate"] = StageRecord(list(interval_points(folder.comparison())), data, manifests | folder.texts())
    if loop.guidance is not None:
        records["guidance"] = StageRecord(files={CURVE: _read_text(join(loop.guidance, CURVE))})
    return records


def _data_records(folders: Sequence[str]) -> dict[str, StageRecord]:
    """One record per stage and split behind the data sets in `folders`: `prepare preference`, `annotate` and so on."""
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


def interval_points(comparison: Comparison) -> Iterator[MetricPoint]:
    """A comparison as metrics by system: `base/ib_score`, `base/ib_score_low`, `base/ib_score_high` and so on,
    `aligned/difference/ib_score`, `aligned/win_rate`; levels: `base/rms`."""
    yield from numbers({"clips": comparison.clips, "counts": comparison.counts})
    yield from numbers({"failed": comparison.failed, "bootstrap": asdict(comparison.bootstrap)})
    yield from numbers(comparison.levels)
    for system, metrics in comparison.systems.items():
        intervals: dict[str, Interval] = {f"{system}/{key}": item for key, item in metrics.items()}
        changes = comparison.differences.get(system, {})
        intervals |= {f"{system}/difference/{key}": item for key, item in changes.items()}
        if system in comparison.win_rate:
            intervals[f"{system}/win_rate"] = comparison.win_rate[system]
        for name, item in intervals.items():
            content = asdict(item)
            yield MetricPoint(name, content.pop("value"))
            yield from (MetricPoint(f"{name}_{part}", number) for part, number in content.items())


def _audioscore(uri: str) -> StageRecord:
    content = read_json(uri)
    history = content.pop("history")
    columns = {name: values for name, values in history.items() if isinstance(values, list)}
    steps = range(max(map(len, columns.values()), default=0))
    records = ({"step": step, **{name: values[step] for name, values in columns.items()}} for step in steps)
    points = []
    for part in ("validation", "training"):  # single numbers; calibration and confusion are in the file
        single = {key: value for key, value in content[part].items() if not isinstance(value, dict | list)}
        points += numbers(single, f"{part}/")
    points += numbers(content["ablation"], "ablation/")
    points.append(MetricPoint("best_step", history["best_step"]))
    return StageRecord([*points, *curve(records, prefix="history/")], files={"metrics.json": _read_text(uri)})


def _data(folders: Sequence[str], context: str) -> tuple[list[DataInput], dict[str, str]]:
    """Data set inputs, and their manifests with every shard's checksum and the inputs' fingerprints."""
    inputs, manifests = [], {}
    for folder in folders:
        dataset = Dataset.open(folder)
        name = dataset_name(folder, dataset.manifest)
        dvc_md5 = dvc_hashes().get(str(Path(folder).absolute()), "")
        inputs.append(DataInput(name, folder, dataset.fingerprint, context, dvc_md5))
        manifests[f"manifests/{name}.json"] = _read_text(join(folder, MANIFEST))
    return inputs, manifests


def _read_text(uri: str) -> str:
    return read_bytes(uri).decode()
