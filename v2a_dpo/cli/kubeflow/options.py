"""Options of the `pipeline` commands: address and credentials of Kubeflow, and the pipeline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from v2a_dpo.cluster.client import Connection, PipelineClient

#: The token comes from the environment or a file: every user of the machine can read a process's arguments.
TOKEN_VARIABLE = "KFP_TOKEN"  # noqa: S105

ServerHost = Annotated[
    str | None, typer.Option(envvar="KFP_HOST", help="Address of Kubeflow Pipelines, e.g. http://localhost:8888.")
]
Namespace = Annotated[str | None, typer.Option(envvar="KFP_NAMESPACE", help="Namespace of the runs: your profile's.")]
TokenFile = Annotated[
    str | None,
    typer.Option(envvar="KFP_TOKEN_FILE", metavar="FILE", help="A file with the token; or set KFP_TOKEN."),
]
CertificateFile = Annotated[
    str | None,
    typer.Option("--ca-file", envvar="KFP_CA_FILE", metavar="FILE", help="Certificate authority of the host."),
]
PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="v2a-dpo, candidates, evaluate or sweep.")]
Preset = Annotated[str, typer.Option(help="Where tasks run: cpu, gpu or gpu-large (see pipelines/presets.py).")]
ImageRegistry = Annotated[
    str | None, typer.Option(envvar="V2A_DPO_IMAGE_REGISTRY", help="Registry and path of the images.")
]
ImageTag = Annotated[str | None, typer.Option(envvar="V2A_DPO_IMAGE_TAG", help="Version of the images.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=VALUE", help="Input of the pipeline; may be repeated."),
]
RootPrefix = Annotated[
    str | None, typer.Option(metavar="S3-PREFIX", help="Where all artifacts of the run go, e.g. s3://bucket/loops/one.")
]
ExistingVersion = Annotated[
    str | None,
    typer.Option("--version", metavar="NAME", help="Run an already uploaded version."),
]
ServiceAccount = Annotated[str, typer.Option(help="Service account of the run's pods.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `submit` and `status` print it.")]

DEFAULT_PRESET = "gpu"
DEFAULT_SERVICE_ACCOUNT = "v2a-dpo-pipeline"
DEFAULT_NAMESPACE = "v2a-dpo"


def connection(host: str | None, namespace: str | None, token_file: str | None, ca_file: str | None) -> Connection:
    """Address and credentials, with the token of the environment; contacts no server.

    Raises UserError without an address or for one without http.
    """
    from v2a_dpo.cluster.client import Connection

    if not host:
        remedy = (
            "Set KFP_HOST or give --host; with `kubectl -n kubeflow port-forward svc/ml-pipeline 8888` "
            "it is http://localhost:8888."
        )
        raise UserError("No address of Kubeflow Pipelines is given.", where="KFP_HOST", remedy=remedy)
    if not host.startswith(("http://", "https://")):
        raise UserError(f"Invalid URL {host!r}.", where="KFP_HOST", remedy="Begin it with https:// or http://.")
    return Connection(host, namespace, token_file=token_file, token=os.environ.get(TOKEN_VARIABLE), ca_file=ca_file)


def connect(host: str | None, namespace: str | None, token_file: str | None, ca_file: str | None) -> PipelineClient:
    """A client connected to Kubeflow Pipelines."""
    where = connection(host, namespace, token_file, ca_file)
    from v2a_dpo.cluster.client import PipelineClient

    return PipelineClient(where)
