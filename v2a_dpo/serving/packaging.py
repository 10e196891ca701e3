"""A model folder as a model that MLflow loads and serves: "models from code", plain safetensors, no pickle;
and where a served model comes from: a model folder, a packaged one, or MLflow's registry.

MLmodel, requirements.txt ...      MLflow's files: signature, settings, pinned packages
served_generator.py                the code that MLflow runs
artifacts/generator/               the model folder, file by file, with their checksums, compared at every load
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement

from v2a_dpo.artifacts.checksums import has_checksums, record_checksums, verify_checksums
from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.errors import UserError
from v2a_dpo.serving.settings import ServingSettings
from v2a_dpo.tracking.connection import tracking_uri
from v2a_dpo.tracking.failures import failures_reported

#: The place of the model folder in a packaged model.
GENERATOR = "artifacts/generator"
_CODE = Path(__file__).with_name("model_code") / "served_generator.py"
#: The extras of this package that a served generator needs.
_EXTRAS = ("models",)
_REGISTRY = ("models:/", "runs:/")
_OUTPUTS = {"audio": "binary", "sample_rate": "long", "video": "binary", "seed": "long"}


def package_model(folder: Path, target: Path, settings: ServingSettings, *, linked: bool = False) -> None:
    """Writes the model in the local `folder` to the new folder `target` in MLflow's form.

    With `linked` the weights are links: enough to upload or to serve, without a second copy on the disk. Raises
    UserError when `folder` holds no model or a damaged one, or `target` is not empty.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    if not (folder / "config.json").is_file():
        raise UserError("This folder holds no model.", where=str(folder), remedy="Name a folder with a config.json.")
    if has_checksums(folder):
        verify_checksums(folder)
    if target.exists() and any(target.iterdir()):
        raise UserError("This folder is not empty.", where=str(target), remedy="Name a new one.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about type hints and input examples: the signature is explicit
        pyfunc.save_model(
            path=str(target),
            python_model=str(_CODE),
            signature=_signature(),
            pip_requirements=pinned_requirements(),
            model_config=settings.model_dump(mode="json"),
        )
    generator = target / GENERATOR
    for name in tree_names(folder):
        (generator / name).parent.mkdir(parents=True, exist_ok=True)
        if linked:
            (generator / name).symlink_to((folder / name).resolve())
        else:
            shutil.copyfile(folder / name, generator / name)
    if not has_checksums(generator):
        record_checksums(generator)
    # Named here and not in save_model, which would copy gigabytes and write this machine's paths into the model.
    model = Model.load(str(target))
    flavor = model.flavors[pyfunc.FLAVOR_NAME]
    flavor["artifacts"] = {"generator": {"path": GENERATOR, "uri": GENERATOR}}
    flavor["model_code_path"] = _CODE.name
    model.save(str(target / "MLmodel"))


def pinned_requirements() -> list[str]:
    """This package, MLflow, and the packages a served generator needs, each at the version installed here.

    One that is not installed here, as in an image that only registers, keeps this package's own range of versions.
    """
    requested = {"v2a-dpo": "v2a-dpo", "mlflow": "mlflow"}
    for text in requires("v2a-dpo") or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            requested[requirement.name] = f"{requirement.name}{requirement.specifier}"
    return [_installed(name) or requested[name] for name in sorted(requested)]


def _installed(name: str) -> str | None:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return None


def _signature() -> Any:
    """The columns of answers. It names no input columns: MLflow would convert whole columns, in which a row without a
    seed is an error and damaged base64 is read, and would drop unknown columns; `VideoRequest` checks each row."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(outputs=Schema([ColSpec(kind, name) for name, kind in _OUTPUTS.items()]))


@contextmanager
def packaged_model(model: str, settings: ServingSettings) -> Iterator[Path]:
    """A local folder with `model` in MLflow's form while the block runs; a model folder is packaged for it.

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
    """The plain model folder of `model`, as for `packaged_model`; its checksums, if any, are compared."""
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
