"""A model folder as a model that MLflow loads and serves: "models from code", plain safetensors, no pickle.

MLmodel, requirements.txt ...      what MLflow reads: signature, settings, pinned packages
served_generator.py                what it runs
artifacts/generator/               the model folder, file by file, with their checksums, compared at every load
"""

from __future__ import annotations

import shutil
import warnings
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from v2a_dpo.artifacts.checksums import has_checksums, record_checksums, verify_checksums
from v2a_dpo.artifacts.location import tree_names
from v2a_dpo.errors import UserError
from v2a_dpo.serving.settings import ServingSettings

#: Where the model folder lies in a packaged model.
GENERATOR = "artifacts/generator"
_CODE = Path(__file__).with_name("model_code") / "served_generator.py"
#: The extras of this package that a served generator needs, beside what every use of it needs.
_EXTRAS = ("models",)
_OUTPUTS = {"audio": "binary", "sample_rate": "long", "video": "binary", "seed": "long"}


def package_model(folder: Path, target: Path, settings: ServingSettings, *, linked: bool = False) -> None:
    """Writes the model in the local `folder` to the new folder `target` in MLflow's form.

    `linked` puts links in the place of the weights: enough to upload or to serve from, without a second copy on the
    disk. Raises UserError when `folder` holds no model or a damaged one, or `target` is not empty.
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

    One that is not installed here, as in an image that only registers, keeps the range this package asks for.
    """
    wanted = {"v2a-dpo": "v2a-dpo", "mlflow": "mlflow"}
    for text in requires("v2a-dpo") or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            wanted[requirement.name] = f"{requirement.name}{requirement.specifier}"
    return [_installed(name) or wanted[name] for name in sorted(wanted)]


def _installed(name: str) -> str | None:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return None


def _signature() -> Any:
    """What comes out. Of what goes in MLflow is told nothing: it would convert whole columns, in which a row without a
    seed is an error and base64 is read however damaged, and would drop unknown columns; `VideoRequest` checks each row
    itself."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(outputs=Schema([ColSpec(kind, name) for name, kind in _OUTPUTS.items()]))
