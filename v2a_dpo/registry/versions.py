"""MLflow's model registry: model folders as versions of one registered model, identified by fingerprint.

A version's files are the model folder, `config.json` and safetensors, in a logged model (`models:/m-...`), which may
hold more files so that MLflow can serve it; there is no pickle. The version's tags describe it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.checksums import CHECKSUMS_FILE
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.registry.ledger import ensure_registered_model
from v2a_dpo.tracking.connection import FINGERPRINT_TAG, Tracking

ROLE_TAG = "v2a_dpo.role"
#: The logged model that holds a version's files; a copy of the version on the same server shares them.
_FILES_TAG = "v2a_dpo.logged_model"
#: The longest description of a version in MLflow's database.
_LONGEST_DESCRIPTION = 5000
Packaged = Callable[[Path], AbstractContextManager[Path]]


@dataclass(frozen=True)
class ModelFolder:
    """A local model folder with its fingerprint and its role in the loop, `base` or `aligned`."""

    folder: Path
    fingerprint: str
    role: str

    @staticmethod
    def of(folder: Path, *, role: str) -> ModelFolder:
        """The model in `folder`; raises UserError unless it holds configurations and safe weights and nothing else."""
        suffixes = {Path(name).suffix for name in tree_names(folder) if name != CHECKSUMS_FILE}
        if suffixes != {".json", ".safetensors"}:
            raise UserError(
                f"A model folder holds config.json and *.safetensors, not {', '.join(sorted(suffixes)) or 'nothing'}.",
                where=str(folder),
                remedy="Register the folder that pretrain or align wrote.",
            )
        return ModelFolder(folder, folder_fingerprint(folder), role)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry, and the logged model that holds its files."""

    version: str
    model_id: str


@dataclass(frozen=True)
class StoredVersion:
    """A version in the registry: its number, its tags, and the ids of its logged model and its run."""

    version: str
    tags: dict[str, str]
    model_id: str
    run_id: str

    @property
    def role(self) -> str:
        """`base` or `aligned`."""
        return self.tags[ROLE_TAG]

    @property
    def fingerprint(self) -> str:
        """The model folder's fingerprint."""
        return self.tags[FINGERPRINT_TAG]


class Registry:
    """The registered model `name` in the MLflow of `tracking`.

    `packaged` turns a model folder into the files to upload: the folder itself, or MLflow's form of it.
    """

    def __init__(self, tracking: Tracking, name: str, *, packaged: Packaged = nullcontext) -> None:
        self._packaged = packaged
        self.tracking = tracking
        self._client = tracking.client
        self.name = name

    def log_model(self, model: ModelFolder, *, run_id: str) -> str:
        """The id of the logged model with the files of `model`; uploads them unless that was completed before."""
        tags = {FINGERPRINT_TAG: model.fingerprint, ROLE_TAG: model.role}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        for logged in self._client.search_logged_models([self.tracking.experiment_id], filter_string=query):
            if logged.status == "READY":
                return str(logged.model_id)
            self._client.delete_logged_model(logged.model_id)
        logged = self._client.create_logged_model(
            self.tracking.experiment_id, name=model.role, source_run_id=run_id, tags=tags
        )
        with self._packaged(model.folder) as files:
            for name in tree_names(files):
                folder = Path(name).parent.as_posix()
                self._client.log_model_artifact(
                    logged.model_id, str(files / name), artifact_path=None if folder == "." else folder
                )
        self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def register(
        self, model: ModelFolder, *, model_id: str, run_id: str, tags: Mapping[str, str], description: str = ""
    ) -> RegisteredVersion:
        """The version with the files of `model`, created unless it exists; its tags become `tags`."""
        ensure_registered_model(self._client, self.name)
        existing = self.find(model.fingerprint, model.role)
        if existing is None:
            version = self._client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                tags={**tags, FINGERPRINT_TAG: model.fingerprint, ROLE_TAG: model.role, _FILES_TAG: model_id},
                description=description[:_LONGEST_DESCRIPTION],
                model_id=model_id,
            )
            return RegisteredVersion(str(version.version), model_id)
        self.set_tags(existing.version, {key: value for key, value in tags.items() if existing.tags.get(key) != value})
        self._client.update_model_version(self.name, existing.version, description[:_LONGEST_DESCRIPTION])
        return RegisteredVersion(existing.version, existing.model_id)

    def find(self, model_fingerprint: str, role: str) -> StoredVersion | None:
        """The oldest version with these files in this role, or None."""
        query = f"tags.`{FINGERPRINT_TAG}` = '{model_fingerprint}' and tags.`{ROLE_TAG}` = '{role}'"
        existing = [item for item in self._client.search_model_versions(query) if item.name == self.name]
        return _stored(min(existing, key=lambda version: int(version.version))) if existing else None

    def version(self, name: str) -> StoredVersion:
        """The version with this number or alias. Raises UserError for none, or for one without our tags."""
        from mlflow.exceptions import MlflowException

        try:
            if name.isdecimal():
                existing = self._client.get_model_version(self.name, name)
            else:
                existing = self._client.get_model_version_by_alias(self.name, name)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            remedy = "Give a version's number or one of its aliases, such as candidate; `v2a-dpo register` makes them."
            raise UserError(f"{self.name} has no version {name!r}.", where="registry", remedy=remedy) from error
        if not {FINGERPRINT_TAG, ROLE_TAG, _FILES_TAG} <= set(existing.tags):
            what = f"Version {existing.version} lacks the tags of a registration."
            raise UserError(what, where=self.name, remedy="Register the model with `v2a-dpo register`.")
        return _stored(existing)

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Sets `tags` of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, version, key, value)

    def download(self, version: StoredVersion, folder: Path) -> Path:
        """Downloads the version's files into `folder` and returns their place."""
        from mlflow.artifacts import download_artifacts

        location = self._client.get_logged_model(version.model_id).artifact_location
        return Path(download_artifacts(location, dst_path=str(folder), tracking_uri=self.tracking.uri))

    def copy_from(self, version: StoredVersion, name: str) -> None:
        """Makes `version` of the registered model `name` on the same server a version of this one."""
        ensure_registered_model(self._client, self.name)
        self._client.copy_model_version(f"models:/{name}/{version.version}", self.name)

    def set_alias(self, alias: str, version: RegisteredVersion) -> None:
        """Sets `alias` to `version`."""
        self._client.set_registered_model_alias(self.name, alias, version.version)


def open_registry(params: Params, *, uri: str | None = None, name: str | None = None) -> Registry:
    """The registered model `name` [default: that of `params`] on the server `uri` [default: MLFLOW_TRACKING_URI]."""
    tracking = Tracking.connect(params.registry.experiment, uri=uri)
    return Registry(tracking, name or params.registry.model_name)


def _stored(version: Any) -> StoredVersion:
    return StoredVersion(str(version.version), dict(version.tags), version.tags[_FILES_TAG], str(version.run_id))
