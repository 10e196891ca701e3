"""One MLflow run: parameters, metrics, data sets and files, in as few requests as the server allows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from v2a_dpo.tracking.values import MetricPoint, flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient

_Item = TypeVar("_Item")

#: The server's limits per request.
_PARAMS_PER_REQUEST, METRICS_PER_REQUEST = 100, 1000


@dataclass(frozen=True)
class DataInput:
    """A data set that a run used: its name, location, fingerprint, and use (`training`, `evaluation`).

    `dvc_md5` is DVC's hash of this version, or "".
    """

    name: str
    uri: str
    digest: str
    context: str
    dvc_md5: str = ""


class TrackedRun:
    """One MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs nested parameters under dotted names, such as `align.beta`."""
        from mlflow.entities import Param

        entries = [Param(key, value) for key, value in flatten(params).items()]
        for chunk in chunks(entries, _PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, params=chunk, synchronous=True)

    def log_metrics(self, points: Iterable[MetricPoint]) -> None:
        """Logs all `points`, a thousand per request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(
                point.key,
                point.value,
                now if point.time_ms is None else point.time_ms,
                point.step,
                model_id=point.model_id or None,
            )
            for point in points
        ]
        for chunk in chunks(entries, METRICS_PER_REQUEST):
            self._client.log_batch(self.run_id, metrics=chunk, synchronous=True)

    def log_file(self, file: Path, folder: str) -> None:
        """Stores the local `file` with the run in `folder`."""
        self._client.log_artifact(self.run_id, str(file), folder)

    def log_text(self, text: str, file: str) -> None:
        """Stores `text` with the run as `file`."""
        self._client.log_text(self.run_id, text, file)

    def log_data(self, inputs: Iterable[DataInput]) -> None:
        """Records the data sets that the run used, by fingerprint, without copying them."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entries = [
            DatasetInput(
                Dataset(item.name, item.digest, _source_type(item.uri), json.dumps({"uri": item.uri}, allow_nan=False)),
                [
                    InputTag("mlflow.data.context", item.context),
                    *([InputTag("dvc.md5", item.dvc_md5)] if item.dvc_md5 else []),
                ],
            )
            for item in inputs
        ]
        if entries:
            self._client.log_inputs(self.run_id, datasets=entries)


def _source_type(uri: str) -> str:
    return uri.partition("://")[0] if "://" in uri else "local"


def chunks(entries: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """`entries` in pieces of `size`, the last one perhaps shorter."""
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
