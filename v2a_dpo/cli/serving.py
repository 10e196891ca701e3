"""Commands that let people use a model: a server for programs, a page for ears."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2a_dpo.cli.options import PARAMS_FILE, Overrides, ParamsFile, read_params

USE = "Use"

_MODEL = "A model folder (path or s3://), a packaged model, or a registered one such as models:/v2a-dpo@champion."
Host = Annotated[str, typer.Option(help="Address to listen at. There is no login: see docs/serving.md.")]


def serve(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 5001,
    timeout: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Longest time of a request.")] = 600,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Answer requests over HTTP: a video in, sound and the video with it out.

    Example: v2a-dpo serve artifacts/aligned --port 5001
    """
    from v2a_dpo.serving.model_source import packaged_model
    from v2a_dpo.serving.scoring_server import serve_packaged
    from v2a_dpo.serving.settings import ServingSettings

    settings = read_params(params, overrides)
    with packaged_model(model, ServingSettings.of(settings)) as packaged:
        serve_packaged(packaged, settings.serve, host=host, port=port, timeout_s=timeout)


def package(
    model: Annotated[str, typer.Argument(help=_MODEL)],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="The new folder, which `mlflow models serve` takes.")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Write a model in MLflow's form, with its checksums, to serve it elsewhere.

    Example: v2a-dpo package artifacts/aligned --output artifacts/packaged
    """
    from v2a_dpo.serving.model_source import model_folder
    from v2a_dpo.serving.packaging import package_model
    from v2a_dpo.serving.settings import ServingSettings

    with model_folder(model) as folder:
        package_model(folder, Path(output), ServingSettings.of(read_params(params, overrides)))
    typer.echo(output)


def demo(
    base: Annotated[str, typer.Option(metavar="MODEL", help=_MODEL)] = "artifacts/pretrained/generator",
    aligned: Annotated[str, typer.Option(metavar="MODEL", help="The same, after alignment.")] = "artifacts/aligned",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 7860,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Open a page on which one drops a video and hears two models side by side.

    Example: v2a-dpo demo --base artifacts/pretrained/generator --aligned artifacts/aligned
    """
    from v2a_dpo.serving.demo_page import serve_demo
    from v2a_dpo.serving.settings import ServingSettings

    typer.echo(f"The page will be at http://{host}:{port} once both models are loaded.")
    serve_demo(ServingSettings.of(read_params(params, overrides)), base=base, aligned=aligned, host=host, port=port)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    for command in (serve, package, demo):
        app.command(rich_help_panel=USE)(command)
