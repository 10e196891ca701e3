"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ParamsFile = Annotated[str, typer.Option("--params", help="The parameters of all stages (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Overrides one parameter, e.g. align.beta=200. May be repeated."),
]
PARAMS_FILE = "params.yaml"


def folder(help_text: str) -> typer.models.OptionInfo:
    """A required option that names a folder, local or s3://."""
    return typer.Option(..., help=help_text + " (folder or s3:// prefix).", metavar="FOLDER")  # type: ignore[no-any-return]
