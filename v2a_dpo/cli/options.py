"""Options that many commands share."""

from __future__ import annotations

from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from v2a_dpo.config import Params

ParamsFile = Annotated[str, typer.Option("--params", help="The parameters of all stages (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Overrides one parameter, e.g. align.beta=200. May be repeated."),
]
KeepArtifacts = Annotated[
    bool,
    typer.Option("--keep-artifacts", help="Keep finished work that other code made; lineage and model card tell."),
]
PARAMS_FILE = "params.yaml"


def folder(help_text: str) -> typer.models.OptionInfo:
    """A required option that names a folder, local or s3://."""
    return typer.Option(..., help=help_text + " (folder or s3:// prefix).", metavar="FOLDER")


def read_params(path: str, overrides: list[str] | None, *, keep_artifacts: bool = False) -> Params:
    """The parameters in the file `path`, local or remote, with the command line's overrides.

    Imported late, so that `--help` answers at once.
    """
    from v2a_dpo.config import load_params

    changes = [*(overrides or []), *(["keep_artifacts=true"] if keep_artifacts else [])]
    if "://" not in path:
        return load_params(path, changes)
    from v2a_dpo.artifacts.location import read_bytes

    with NamedTemporaryFile(suffix=".yaml") as file:
        file.write(read_bytes(path))
        file.flush()
        return load_params(file.name, changes)
