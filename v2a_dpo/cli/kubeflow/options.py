"""Groups of options of the `pipeline` commands: the server, how a pipeline is compiled, and what a run gets."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from v2a_dpo.cluster.client import PipelineClient
    from v2a_dpo.cluster.submission import CompiledPipeline, Submission
    from v2a_dpo.config import Params

#: The token comes from the environment or a file: every user of the machine can read a process's arguments.
TOKEN_VARIABLE = "KFP_TOKEN"  # noqa: S105
DEFAULT_NAMESPACE = "v2a-dpo"

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="v2a-dpo, candidates, evaluate or sweep.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `submit` and `status` print it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be submitted; contacts no server.")]


@dataclass(frozen=True)
class Server:
    """The address of Kubeflow Pipelines, and who calls."""

    host: Annotated[
        str | None, typer.Option(envvar="KFP_HOST", help="Address of Kubeflow Pipelines, e.g. http://localhost:8888.")
    ] = None
    namespace: Annotated[
        str | None, typer.Option(envvar="KFP_NAMESPACE", help="Namespace of the runs: your profile's.")
    ] = None
    token_file: Annotated[
        str | None,
        typer.Option(envvar="KFP_TOKEN_FILE", metavar="FILE", help="A file with the token; or set KFP_TOKEN."),
    ] = None
    ca_file: Annotated[
        str | None,
        typer.Option("--ca-file", envvar="KFP_CA_FILE", metavar="FILE", help="Certificate authority of the host."),
    ] = None

    def connect(self) -> PipelineClient:
        """A client connected to the server, with the token of the environment if no file holds one.

        Raises UserError without an address, for one without http, and when the server cannot be reached.
        """
        if not self.host:
            remedy = (
                "Set KFP_HOST or give --host; with `kubectl -n kubeflow port-forward svc/ml-pipeline 8888` "
                "it is http://localhost:8888."
            )
            raise UserError("The address of Kubeflow Pipelines is missing.", where="KFP_HOST", remedy=remedy)
        if not self.host.startswith(("http://", "https://")):
            remedy = "Begin it with https:// or http://."
            raise UserError(f"Invalid URL {self.host!r}.", where="KFP_HOST", remedy=remedy)
        from v2a_dpo.cluster.client import Connection, PipelineClient

        token = os.environ.get(TOKEN_VARIABLE)
        return PipelineClient(
            Connection(self.host, self.namespace, token_file=self.token_file, token=token, ca_file=self.ca_file)
        )


@dataclass(frozen=True)
class Compilation:
    """How a pipeline is compiled."""

    preset: Annotated[str, typer.Option(help="Where tasks run: cpu, gpu or gpu-large (see pipelines/presets.py).")] = (
        "gpu"
    )
    image_registry: Annotated[
        str | None, typer.Option(envvar="V2A_DPO_IMAGE_REGISTRY", help="Registry and path of the images.")
    ] = None
    image_tag: Annotated[str | None, typer.Option(envvar="V2A_DPO_IMAGE_TAG", help="Version of the images.")] = None

    def write(
        self, name: str, output: str | Path, *, manifests: bool = False, namespace: str = DEFAULT_NAMESPACE
    ) -> Path:
        """Compiles the pipeline `name` into the file `output` and returns its path."""
        from components.definition import Images
        from pipelines.compilation import compile_pipeline

        default = Images()
        images = Images(self.image_registry or default.registry, self.image_tag or default.tag)
        return compile_pipeline(
            name, output=output, preset=self.preset, images=images, manifests=manifests, namespace=namespace
        )

    def compiled(self, name: str) -> CompiledPipeline:
        """The pipeline called `name`, compiled."""
        from v2a_dpo.cluster.submission import CompiledPipeline

        with tempfile.TemporaryDirectory() as folder:
            return CompiledPipeline.of(self.write(name, Path(folder, "pipeline.yaml")).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Request:
    """What a run gets beside the parameters."""

    root: Annotated[
        str | None,
        typer.Option(metavar="S3-PREFIX", help="Where all artifacts of the run go, e.g. s3://bucket/loops/one."),
    ] = None
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="Input of the pipeline; may be repeated.")
    ] = None
    experiment: Annotated[str | None, typer.Option(help="Experiment in Kubeflow [default: registry.experiment].")] = (
        None
    )
    service_account: Annotated[str, typer.Option(help="Service account of the run's pods.")] = "v2a-dpo-pipeline"
    existing_version: Annotated[
        str | None, typer.Option("--version", metavar="NAME", help="Run an already uploaded version.")
    ] = None

    def submission(self, compiled: CompiledPipeline, params: Params, *, run_name: str | None) -> Submission:
        """The checked submission: all parameters, the root, and the pipeline's further inputs.

        Raises UserError that names each wrong parameter or input. Contacts no server.
        """
        from v2a_dpo.cluster.submission import Submission
        from v2a_dpo.orchestration.sweep import plan_sweep
        from v2a_dpo.params import values_of

        inputs: dict[str, Any] = {"params": values_of(params)}
        if self.root is not None:
            inputs["root"] = self.root
        for each in self.inputs or []:
            name, separator, value = each.partition("=")
            if not separator:
                what = f"--input expects name=value, got {each!r}."
                raise UserError(what, where="--input", remedy="Add = and the value.")
            inputs[name] = value
        arguments = compiled.arguments(inputs)
        if compiled.name == "sweep":  # the run's first task would refuse these too, minutes later
            values = compiled.defaults | arguments
            plan_sweep(params, **{name: values[name] for name in ("betas", "thresholds", "grid")})
        return Submission(
            compiled,
            arguments,
            experiment=self.experiment or params.registry.experiment,
            run_name=run_name or f"{compiled.name} {params.profile} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            service_account=self.service_account,
            existing_version=self.existing_version,
        )
