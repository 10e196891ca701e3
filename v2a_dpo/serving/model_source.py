"""Where a served model comes from: a model folder, a packaged model, or MLflow's registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from v2a_dpo.artifacts.checksums import verify_checksums
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.errors import UserError
from v2a_dpo.serving.packaging import GENERATOR, package_model
from v2a_dpo.serving.settings import ServingSettings
from v2a_dpo.tracking.connection import tracking_uri
from v2a_dpo.tracking.failures import failures_reported

_REGISTRY = ("models:/", "runs:/")


@contextmanager
def packaged_model(model: str, settings: ServingSettings) -> Iterator[Path]:
    """A local folder with `model` in MLflow's form while the block runs: as it was packaged, or packaged now.

    `model` is a model folder (path or URI), a packaged one, or an address such as `models:/v2a-dpo@champion`.
    Raises UserError when there is no such model.
    """
    with TemporaryDirectory(prefix="v2a-dpo-") as temporary, _local(model, temporary) as folder:
        if (folder / "MLmodel").is_file():
            yield folder
            return
        with packaged_folder(folder, settings) as packaged:
            yield packaged


@contextmanager
def packaged_folder(folder: Path, settings: ServingSettings) -> Iterator[Path]:
    """The local model `folder` in MLflow's form, with links to its weights, while the block runs."""
    with TemporaryDirectory(prefix="v2a-dpo-") as temporary:
        packaged = Path(temporary) / "packaged"
        package_model(folder, packaged, settings, linked=True)
        yield packaged


@contextmanager
def model_folder(model: str) -> Iterator[Path]:
    """The plain model folder of `model`, which may be all that `packaged_model` takes; checksums are compared where
    there are any."""
    with TemporaryDirectory(prefix="v2a-dpo-") as temporary, _local(model, temporary) as folder:
        if (folder / "MLmodel").is_file():
            verify_checksums(folder / GENERATOR)
            yield folder / GENERATOR
            return
        yield folder


@contextmanager
def _local(model: str, temporary: str) -> Iterator[Path]:
    if model.startswith(_REGISTRY):
        yield _downloaded(model, temporary)
        return
    with local_copy(model) as folder:
        yield folder


def _downloaded(model: str, temporary: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    with failures_reported(uri):
        try:
            target = str(Path(temporary) / "downloaded")
            return Path(download_artifacts(model, dst_path=target, tracking_uri=uri))
        except MlflowException as error:
            if error.get_http_status_code() not in {400, 404}:
                raise
            remedy = "Check the name and the alias, and which MLflow MLFLOW_TRACKING_URI names."
            raise UserError(f"There is no such model. {error.message}", where=model, remedy=remedy) from error
