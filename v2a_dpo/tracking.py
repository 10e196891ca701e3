"""MLflow runs: one parent run a loop, nested runs for its stages, with parameters, metrics, data sets and files.

Everything goes through a client with explicit run ids; there is no active run. Without
MLFLOW_TRACKING_URI the runs go to `mlflow.db` and `mlruns/` in the working folder, which need no server.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL_URI = "sqlite:///mlflow.db"
#: The fingerprint of all that a run was logged from; the same artifacts are not logged twice.
FINGERPRINT_TAG = "v2a_dpo.fingerprint"

#: What the server takes in one request.
_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 1000
#: How MLflow's requests are tried unless the user says otherwise: the first contact shows within seconds that no server
#: answers, and later a server may be away for about 15 s, not for MLflow's four minutes.
_FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_LATER = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


@dataclass(frozen=True)
class MetricPoint:
    """One number of a run; `model_id` ties it to a logged model."""

    key: str
    value: float
    step: int = 0
    model_id: str = ""


@dataclass(frozen=True)
class DataInput:
    """A data set that a run used: its name, where it lies, its fingerprint, and what for (`training`, `evaluation`)."""

    name: str
    uri: str
    digest: str
    context: str


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the local database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_URI


def public_uri(uri: str) -> str:
    """`uri` without a user's name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


class Tracking:
    """A connection to one experiment of one MLflow."""

    def __init__(self, client: MlflowClient, *, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    @staticmethod
    def connect(experiment: str) -> Tracking:
        """The tracking of `experiment`, which is created if need be. Raises UserError when MLflow cannot be reached."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient, set_tracking_uri

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        uri = tracking_uri()
        # A bare database keeps no files; a server has its own place for them.
        location = Path("mlruns").absolute().as_uri() if uri.startswith("sqlite:") else None
        with failures_reported(uri):
            set_tracking_uri(uri)  # a bare database's registry looks up `models:/m-...` there, not with the client
            with _environment(_FIRST_CONTACT):
                client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                found = client.get_experiment_by_name(experiment)
            for name, value in _LATER.items():
                os.environ.setdefault(name, value)
            experiment_id = (
                found.experiment_id if found else client.create_experiment(experiment, artifact_location=location)
            )
        return Tracking(client, uri=uri, experiment_id=experiment_id)

    @contextmanager
    def run(
        self, name: str, *, fingerprint: str, parent: TrackedRun | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[TrackedRun]:
        """A new run, nested in `parent` if given, which ends with the block: FINISHED, or FAILED when it raises."""
        from mlflow.exceptions import MlflowException

        nesting = {"mlflow.parentRunId": parent.run_id} if parent else {}
        all_tags = {**(tags or {}), **source_tags(), FINGERPRINT_TAG: fingerprint, **nesting}
        created = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags)
        run = TrackedRun(self.client, created.info.run_id)
        try:
            yield run
        except BaseException:
            with suppress(MlflowException):  # the server may be what failed
                self.client.set_terminated(run.run_id, "FAILED")
            raise
        self.client.set_terminated(run.run_id, "FINISHED")

    def finished_run(self, fingerprint: str) -> TrackedRun | None:
        """The parent run that was logged to its end from what `fingerprint` says; None when there is none."""
        finished = [run for run in self._parents(fingerprint) if run.info.status == "FINISHED"]
        return TrackedRun(self.client, finished[0].info.run_id) if finished else None

    def delete_unfinished(self, fingerprint: str) -> None:
        """Deletes the runs, with what is nested in them, of killed attempts to log what `fingerprint` says."""
        for parent in self._parents(fingerprint):
            if parent.info.status != "FINISHED":
                for child in self.children(TrackedRun(self.client, parent.info.run_id)).values():
                    self.client.delete_run(child)
                self.client.delete_run(parent.info.run_id)

    def children(self, parent: TrackedRun) -> dict[str, str]:
        """The runs nested in `parent`: name -> run id."""
        query = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
        runs = self.client.search_runs([self.experiment_id], query, order_by=["attributes.start_time ASC"])
        return {run.info.run_name: run.info.run_id for run in runs}

    def _parents(self, fingerprint: str) -> list[Any]:
        runs = self.client.search_runs([self.experiment_id], f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'")
        return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


class TrackedRun:
    """One MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs nested parameters under dotted names, such as `align.beta`."""
        from mlflow.entities import Param

        entries = [Param(key, value) for key, value in flatten(params).items()]
        for chunk in _chunks(entries, _PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=chunk, synchronous=True)

    def log_metrics(self, points: Iterable[MetricPoint]) -> None:
        """Logs all `points`, a thousand a request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(point.key, point.value, now, point.step, model_id=point.model_id or None) for point in points]
        for chunk in _chunks(entries, _METRICS_A_BATCH):
            self._client.log_batch(self.run_id, metrics=chunk, synchronous=True)

    def log_text(self, text: str, file: str) -> None:
        """Stores `text` with the run as `file`."""
        self._client.log_text(self.run_id, text, file)

    def log_data(self, inputs: Iterable[DataInput]) -> None:
        """Records the data sets that the run used, by fingerprint; nothing of them is copied."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entries = [
            DatasetInput(
                Dataset(item.name, item.digest, _source_type(item.uri), json.dumps({"uri": item.uri})),
                [InputTag("mlflow.data.context", item.context)],
            )
            for item in inputs
        ]
        if entries:
            self._client.log_inputs(self.run_id, datasets=entries)


@contextmanager
def failures_reported(uri: str) -> Iterator[None]:
    """Turns what MLflow and its stores raise into a UserError that names the tracking server."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, Boto3Error, BotoCoreError, ClientError) as error:
        raise UserError(
            f"MLflow did not do what was asked: {error}.",
            where=public_uri(uri),
            remedy="Check that MLFLOW_TRACKING_URI names a running server, or unset it to use a local database.",
        ) from error


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables while the block runs, except those that the user has set."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names, as text; lists stay whole, as JSON."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value)
    return flat


def numbers(values: Mapping[str, Any], prefix: str = "") -> list[MetricPoint]:
    """The numbers in nested `values` as metrics named by their path, such as `base/ib_score/low`; the rest is left out."""
    points: list[MetricPoint] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            points += numbers(value, f"{name}/")
        elif _is_number(value):
            points.append(MetricPoint(name, value))
    return points


def curve(records: Iterable[Mapping[str, Any]], *, prefix: str = "") -> list[MetricPoint]:
    """The numbers of a training log, one point each at the record's `step`; a list counts by its length."""
    points: list[MetricPoint] = []
    for record in records:
        for key, value in record.items():
            number = len(value) if isinstance(value, list) else value
            if key != "step" and _is_number(number):
                points.append(MetricPoint(f"{prefix}{key}", number, record["step"]))
    return points


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def source_tags() -> dict[str, str]:
    """The git commit of the working folder and whether files differ from it; empty outside a repository."""
    git = shutil.which("git")
    if git is None:
        return {}
    commit = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    if commit.returncode != 0:
        return {}
    status = [git, "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(status, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return {"mlflow.source.git.commit": commit.stdout.strip(), "git.modified": str(bool(changed)).lower()}


def _source_type(uri: str) -> str:
    return uri.partition("://")[0] if "://" in uri else "local"


def _chunks(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
