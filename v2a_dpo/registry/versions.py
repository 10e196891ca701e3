"""MLflow's model registry: model folders as versions of one registered model, found again by their fingerprint.

A version's files are the model folder as it is, `config.json` and safetensors, kept by a logged model (`models:/m-...`);
there is no pickle and no framework wrapper. The version's tags say what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.errors import UserError
from v2a_dpo.tracking.connection import FINGERPRINT_TAG, Tracking

ROLE_TAG = "v2a_dpo.role"


@dataclass(frozen=True)
class ModelFolder:
    """A local model folder with its fingerprint and its role in the loop, `base` or `aligned`."""

    folder: Path
    fingerprint: str
    role: str

    @staticmethod
    def of(folder: Path, *, role: str) -> ModelFolder:
        """The model in `folder`; raises UserError unless it holds configurations and safe weights and nothing else."""
        suffixes = {Path(name).suffix for name in tree_names(folder)}
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


class Registry:
    """The registered model `name` in the MLflow of `tracking`."""

    def __init__(self, tracking: Tracking, name: str) -> None:
        self._tracking = tracking
        self._client = tracking.client
        self.name = name

    def log_model(self, model: ModelFolder, *, run_id: str) -> str:
        """The id of the logged model with the files of `model`; uploads them unless an earlier upload was completed."""
        tags = {FINGERPRINT_TAG: model.fingerprint, ROLE_TAG: model.role}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        for logged in self._client.search_logged_models([self._tracking.experiment_id], filter_string=query):
            if logged.status == "READY":
                return str(logged.model_id)
            self._client.delete_logged_model(logged.model_id)
        logged = self._client.create_logged_model(
            self._tracking.experiment_id, name=model.role, source_run_id=run_id, tags=tags
        )
        for name in tree_names(model.folder):
            folder = Path(name).parent.as_posix()
            self._client.log_model_artifact(
                logged.model_id, str(model.folder / name), artifact_path=None if folder == "." else folder
            )
        self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def register(self, model: ModelFolder, *, model_id: str, run_id: str, tags: Mapping[str, str]) -> RegisteredVersion:
        """The version whose files are those of `model`, new or found again; its tags become `tags`."""
        self._ensure_registered_model()
        identity = {FINGERPRINT_TAG: model.fingerprint, ROLE_TAG: model.role}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
        found = self._client.search_model_versions(f"name = '{self.name}' and {query}")
        if not found:
            version = self._client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                tags={**tags, **identity},
                model_id=model_id,
            )
            return RegisteredVersion(str(version.version), model_id)
        oldest = min(found, key=lambda version: int(version.version))
        for key, value in tags.items():
            if oldest.tags.get(key) != value:
                self._client.set_model_version_tag(self.name, oldest.version, key, value)
        return RegisteredVersion(str(oldest.version), str(oldest.source).removeprefix("models:/"))

    def set_alias(self, alias: str, version: RegisteredVersion) -> None:
        """Lets `alias` point at `version`."""
        self._client.set_registered_model_alias(self.name, alias, version.version)

    def _ensure_registered_model(self) -> None:
        if not self._client.search_registered_models(f"name = '{self.name}'"):
            self._client.create_registered_model(self.name)
