"""Commands that serve a model: HTTP server, package and demo page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from v2a_dpo.cli.options import AT, Call, folder, register

SERVE = "Serve"

_MODEL = "A model folder (path or s3://), a packaged model, or a registered one such as models:/v2a-dpo@champion."
Host = Annotated[str, typer.Option(help="Address to listen at. It has no login: see docs/serving.md.")]


def serve(
    call: Call,
    model: Annotated[str, typer.Argument(help=_MODEL)] = AT.aligned,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 5001,
    timeout: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Time limit of a request.")] = 600,
) -> None:
    """Answer requests over HTTP: video in; audio, and the video with it, out.

    Example: v2a-dpo serve models:/v2a-dpo@champion --port 5001
    """
    from v2a_dpo.serving.packaging import packaged_model
    from v2a_dpo.serving.scoring_server import serve_packaged
    from v2a_dpo.serving.settings import ServingSettings

    with packaged_model(model, ServingSettings.of(call.params)) as packaged:
        serve_packaged(packaged, call.params.serve, host=host, port=port, timeout_s=timeout)


def package(
    call: Call,
    model: Annotated[str, typer.Argument(help=_MODEL)] = AT.aligned,
    output: Annotated[str, folder("The new folder, which `mlflow models serve` reads")] = AT.path("packaged"),
) -> str:
    """Write a model in MLflow's form, with its checksums, to serve it elsewhere.

    Example: v2a-dpo package models:/v2a-dpo@champion --output packaged
    """
    from v2a_dpo.serving.packaging import model_folder, package_model
    from v2a_dpo.serving.settings import ServingSettings

    with model_folder(model) as source:
        package_model(source, Path(output), ServingSettings.of(call.params))
    return output


def demo(
    call: Call,
    base: Annotated[str, typer.Option(metavar="MODEL", help=_MODEL)] = AT.base,
    aligned: Annotated[str, typer.Option(metavar="MODEL", help="The same, after alignment.")] = AT.aligned,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 7860,
) -> None:
    """Open a page that compares two models side by side on an uploaded video.

    Example: v2a-dpo demo
    """
    from v2a_dpo.serving.demo_page import serve_demo
    from v2a_dpo.serving.settings import ServingSettings

    typer.echo(f"The page will be at http://{host}:{port} once both models are loaded.")
    serve_demo(ServingSettings.of(call.params), base=base, aligned=aligned, host=host, port=port)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(app, SERVE, serve, package, demo)
