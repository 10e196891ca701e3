"""From a pipeline's name to the YAML that Kubeflow takes: the pipeline's IR, or Kubernetes manifests for GitOps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from kfp.compiler import Compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.base_component import BaseComponent

from components.definition import Images
from pipelines.candidates import candidates
from pipelines.evaluate import evaluation
from pipelines.full_loop import full_loop
from pipelines.placement import Placement
from pipelines.presets import PRESETS
from pipelines.sweep import sweep
from v2a_dpo.errors import UserError

#: Name -> function that builds the pipeline for a placement; its docstring is the pipeline's description for users.
PIPELINES: Mapping[str, Callable[[Placement], BaseComponent]] = {
    "v2a-dpo": full_loop,
    "candidates": candidates,
    "evaluate": evaluation,
    "sweep": sweep,
}


def build_pipeline(name: str, *, preset: str = "gpu", images: Images | None = None) -> BaseComponent:
    """The pipeline `name` with its tasks placed by `preset`, ready to be compiled, or run by KFP's local runner.

    Raises UserError for an unknown name or preset.
    """
    for what, value, known in (("pipeline", name, PIPELINES), ("preset", preset, PRESETS)):
        if value not in known:
            raise UserError(f"There is no {what} {value!r}.", where=what, remedy=f"Choose among {', '.join(known)}.")
    return PIPELINES[name](Placement(PRESETS[preset], images or Images()))


def compile_pipeline(
    name: str,
    *,
    output: str | Path,
    preset: str = "gpu",
    images: Images | None = None,
    manifests: bool = False,
    namespace: str = "v2a-dpo",
) -> Path:
    """Compiles the pipeline `name` into the YAML file `output` and returns its path.

    With `manifests` the file holds a Pipeline and a PipelineVersion resource for `namespace`, to be applied by GitOps;
    else the pipeline's IR, to be uploaded. `images` defaults to those of the environment. Raises UserError for an
    unknown name or preset.
    """
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    pipeline = build_pipeline(name, preset=preset, images=images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        Compiler().compile(
            pipeline,
            str(path),
            kubernetes_manifest_format=manifests,
            kubernetes_manifest_options=_manifest_options(name, preset, images or Images(), namespace)
            if manifests
            else None,
        )
    return path


def _manifest_options(name: str, preset: str, images: Images, namespace: str) -> KubernetesManifestOptions:
    """The resources' names: one pipeline per name, one version per preset and image tag."""
    version = f"{name}-{preset}-{images.tag}".lower().replace("_", "-").replace("+", "-")
    return KubernetesManifestOptions(
        pipeline_name=name,
        pipeline_version_name=version.replace(".", "-"),
        namespace=namespace,
        include_pipeline_manifest=True,
    )
