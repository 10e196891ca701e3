"""A generator from MLflow's registry as a model folder that stages can read, on S3 for a cluster."""

from __future__ import annotations

import shutil

from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.location import exists, join
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent


def fetch_model(params: Params, *, model: str, output: str, progress: Progress = silent) -> str:
    """The folder of `model`: itself, or `output`, into which the model of an address such as `models:/v2a-dpo@champion`
    is copied.

    Raises UserError when there is no such model.
    """
    if not model.startswith(("models:/", "runs:/")):
        if not exists(join(model, "config.json")):
            raise UserError("This folder holds no model.", where=model, remedy="Name a folder that holds config.json.")
        return model
    from v2a_dpo.serving.packaging import model_folder

    with model_folder(model) as folder, new_folder(output) as target:
        files = sorted(item for item in folder.iterdir() if item.is_file())
        for done, file in enumerate(files, start=1):
            shutil.copyfile(file, target / file.name)
            progress("Fetching", done, len(files))
    return output
