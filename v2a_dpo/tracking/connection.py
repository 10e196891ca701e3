"""A connection to MLflow: one parent run per loop, nested runs for its stages.

Every call goes through a client with explicit run ids; there is no active run. Without MLFLOW_TRACKING_URI the runs go
to `mlflow.db` and `mlruns/` in the working folder, which need no server.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.failures import failures_reported, public_uri
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.source import source_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
LOCAL_URI = f"{_SQLITE}mlflow.db"
#: The fingerprint of the artifacts that a run was logged from; the same ones are not logged twice.
FINGERPRINT_TAG = "v2a_dpo.fingerprint"
#: MLflow's tag of a nested run.
PARENT_TAG = "mlflow.parentRunId"

#: MLflow's retries unless the user sets them: the first request fails within seconds where no server answers, later
#: ones after about 15 s, not after MLflow's four minutes.
_FIRST_REQUEST = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_LATER_REQUESTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the local database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_URI


def experiment_id(client: MlflowClient, name: str, *, artifact_location: str | None = None) -> str:
    """The id of the experiment `name`, which is created if it does not exist.

    Raises UserError when it was deleted: MLflow keeps a deleted experiment and its name, but accepts no runs in it.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another process may be faster
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        remedy = f"Restore it with `{restore}`, or name another one, as with `--set registry.experiment=NAME`."
        what = f"The MLflow experiment {name!r} was deleted."
        raise UserError(what, where=public_uri(client.tracking_uri), remedy=remedy)
    return str(experiment.experiment_id)


class Tracking:
    """A connection to one experiment of one MLflow."""

    def __init__(self, client: MlflowClient, *, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    @staticmethod
    def connect(experiment: str, *, uri: str | None = None) -> Tracking:
        """The tracking of `experiment`, which is created if it does not exist, at `uri` or at `tracking_uri()`.

        Raises UserError when MLflow cannot be reached, or when the experiment was deleted.
        """
        _set_defaults(_QUIET)
        try:
            from mlflow import MlflowClient, set_tracking_uri
        except ImportError as error:
            remedy = "Install the extra `tracking`: pip install 'v2a-dpo[tracking]'."
            raise UserError("MLflow is not installed.", where="mlflow", remedy=remedy) from error

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        uri = uri or tracking_uri()
        # A bare database keeps no files; a server has its own place for them.
        location = Path("mlruns").absolute().as_uri() if uri.startswith("sqlite:") else None
        with failures_reported(uri):
            set_tracking_uri(uri)  # a bare database's registry looks up `models:/m-...` there, not with the client
            added = _set_defaults(_FIRST_REQUEST)
            try:
                with _loggers_kept():
                    _create_database(uri)
                    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                    client.get_experiment_by_name(experiment)
            finally:
                for name in added:
                    del os.environ[name]
            _set_defaults(_LATER_REQUESTS)
            number = experiment_id(client, experiment, artifact_location=location)
        return Tracking(client, uri=uri, experiment_id=number)

    @contextmanager
    def run(
        self, name: str, *, fingerprint: str, parent: TrackedRun | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[TrackedRun]:
        """A new run, nested in `parent` if given, which ends with the block: FINISHED, or FAILED when it raises."""
        from mlflow.exceptions import MlflowException

        nesting = {PARENT_TAG: parent.run_id} if parent else {}
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

    def adopt(self, run: TrackedRun, *, parent: TrackedRun) -> None:
        """Nests a run that was logged live in `parent`."""
        self.client.set_tag(run.run_id, PARENT_TAG, parent.run_id)

    def is_nested(self, run: TrackedRun) -> bool:
        """Whether `run` belongs to a parent already."""
        return PARENT_TAG in self.client.get_run(run.run_id).data.tags

    def finished_run(self, fingerprint: str) -> TrackedRun | None:
        """The completely logged parent run of the artifacts of `fingerprint`; None when there is none."""
        finished = [run for run in self._parents(fingerprint) if run.info.status == "FINISHED"]
        return TrackedRun(self.client, finished[0].info.run_id) if finished else None

    def delete_unfinished(self, fingerprint: str) -> None:
        """Deletes the runs of killed attempts to log the artifacts of `fingerprint`, with the runs nested in them."""
        for parent in self._parents(fingerprint):
            if parent.info.status != "FINISHED":
                for child in self._nested(parent.info.run_id):
                    if child.data.tags[FINGERPRINT_TAG] == fingerprint:  # the run of live curves stays
                        self.client.delete_run(child.info.run_id)
                self.client.delete_run(parent.info.run_id)

    def children(self, parent: TrackedRun) -> dict[str, str]:
        """Name -> run id of the runs nested in `parent`."""
        return {run.info.run_name: run.info.run_id for run in self._nested(parent.run_id)}

    def _nested(self, run_id: str) -> list[Any]:
        query = f"tags.`{PARENT_TAG}` = '{run_id}'"
        return list(self.client.search_runs([self.experiment_id], query, order_by=["attributes.start_time ASC"]))

    def _parents(self, fingerprint: str) -> list[Any]:
        runs = self.client.search_runs([self.experiment_id], f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'")
        return [run for run in runs if PARENT_TAG not in run.data.tags]


def _create_database(uri: str) -> None:
    """Creates the SQLite database of `uri` whole, or not at all, unless it exists.

    MLflow creates it in dozens of steps: killed between two of them, or done by two processes at once, they leave a
    database that it refuses from then on.
    """
    from mlflow import MlflowClient

    database = Path(uri.removeprefix(_SQLITE))
    if not uri.startswith(_SQLITE) or database.exists() or not database.parent.is_dir():
        return
    new = database.with_name(f".{database.name}-{uuid.uuid4().hex}")
    try:
        MlflowClient(tracking_uri=f"{_SQLITE}{new}").search_experiments()
        with suppress(FileExistsError):  # another process was faster: its database stays
            os.link(new, database)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def _loggers_kept() -> Iterator[None]:
    """Keeps loggers enabled while MLflow migrates a new database, which disables all that exist."""
    loggers = [item for item in logging.root.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    enabled = [item for item in loggers if not item.disabled]
    try:
        yield
    finally:
        for item in enabled:
            item.disabled = False


def _set_defaults(values: Mapping[str, str]) -> list[str]:
    """Sets environment variables unless the user has set them, and returns the names of those that are new."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    return added
