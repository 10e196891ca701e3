"""From the options of `submit` and `schedule create` to a checked submission; nothing here contacts a server."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2a_dpo.cli.kubeflow.options import DEFAULT_NAMESPACE
from v2a_dpo.cli.options import read_params
from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from v2a_dpo.cluster.submission import CompiledPipeline, Submission


def compile_to(
    output: str | Path,
    name: str,
    *,
    preset: str,
    image_registry: str | None,
    image_tag: str | None,
    manifests: bool = False,
    namespace: str = DEFAULT_NAMESPACE,
) -> Path:
    """Compiles the pipeline `name` into the file `output` and returns its path."""
    from components.definition import Images
    from pipelines.compilation import compile_pipeline

    default = Images()
    images = Images(image_registry or default.registry, image_tag or default.tag)
    return compile_pipeline(name, output=output, preset=preset, images=images, manifests=manifests, namespace=namespace)


def compiled_pipeline(name: str, *, preset: str, image_registry: str | None, image_tag: str | None) -> CompiledPipeline:
    """The pipeline called `name`, compiled."""
    from v2a_dpo.cluster.submission import CompiledPipeline

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compile_to(path, name, preset=preset, image_registry=image_registry, image_tag=image_tag)
        return CompiledPipeline.of(path.read_text(encoding="utf-8"))


def submission_of(
    compiled: CompiledPipeline,
    *,
    root: str | None,
    inputs: list[str] | None,
    params: str,
    overrides: list[str] | None,
    experiment: str | None,
    run_name: str | None,
    service_account: str,
    existing_version: str | None = None,
) -> Submission:
    """The checked submission: all parameters, the root, and the pipeline's further inputs.

    Raises UserError that names each wrong parameter or input.
    """
    from v2a_dpo.cluster.submission import Submission
    from v2a_dpo.config import values_of
    from v2a_dpo.orchestration.sweep import plan_sweep

    settings = read_params(params, overrides)
    given: dict[str, Any] = {"params": values_of(settings)}
    if root is not None:
        given["root"] = root
    for each in inputs or []:
        name, separator, value = each.partition("=")
        if not separator:
            raise UserError(
                f"--input expects name=value, got {each!r}.", where="--input", remedy="Add = and the value."
            )
        given[name] = value
    arguments = compiled.arguments(given)
    if compiled.name == "sweep":  # the run's first task would refuse these too, minutes later
        plan_sweep(
            settings, **{name: (compiled.defaults | arguments)[name] for name in ("betas", "thresholds", "grid")}
        )
    return Submission(
        compiled,
        arguments,
        experiment=experiment or settings.registry.experiment,
        run_name=run_name or f"{compiled.name} {settings.profile} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        service_account=service_account,
        existing_version=existing_version,
    )
