"""What all components share: an image of ours by their role, and nothing installed when a pod starts.

A component is a signature and one call of a stage: its values come as KFP gives them (an empty text means "not given"),
`v2a_dpo.orchestration.task` turns them into the stage's own, and progress appears as lines in the pod's log. Bulk data
goes by prefix, local or `s3://`; KFP's artifacts hold manifests, numbers, the report and the place of a model.

KFP copies a component's source and evaluates its annotations, so the files of components import only what annotations
need, and postpone no annotation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

from kfp import dsl

#: The three images: the generator's encoders, sampling and training; scorers and taggers; everything that needs no GPU.
GENERATION, SCORING, ORCHESTRATION = "v2a-dpo-generation", "v2a-dpo-scoring", "v2a-dpo-orchestration"
#: What a task needs of its node and of its image.
Role = Literal["control", "tracking", "preparation", "generation", "scoring", "alignment", "supervision", "evaluation"]
IMAGES: Mapping[Role, str] = {
    "control": ORCHESTRATION,
    "tracking": ORCHESTRATION,
    "preparation": GENERATION,
    "generation": GENERATION,
    "scoring": SCORING,
    "alignment": GENERATION,
    "supervision": ORCHESTRATION,
    "evaluation": SCORING,
}

REGISTRY_VARIABLE, TAG_VARIABLE = "V2A_DPO_IMAGE_REGISTRY", "V2A_DPO_IMAGE_TAG"
DEFAULT_REGISTRY = "ghcr.io/v2a-dpo"


def _registry() -> str:
    return os.environ.get(REGISTRY_VARIABLE) or DEFAULT_REGISTRY


def _tag() -> str:
    return os.environ.get(TAG_VARIABLE) or version("v2a-dpo")


@dataclass(frozen=True)
class Images:
    """Registry and version of the images; the defaults are those of the environment (V2A_DPO_IMAGE_REGISTRY,
    V2A_DPO_IMAGE_TAG)."""

    registry: str = field(default_factory=_registry)
    #: A version, never `latest`: a run must be repeatable, and a node must not keep an old image under the same name.
    tag: str = field(default_factory=_tag)

    def __post_init__(self) -> None:
        if self.tag == "latest":
            raise ValueError(f"name the images by version, not by 'latest' (see {TAG_VARIABLE})")

    def reference(self, image: str) -> str:
        """The full name of `image`, such as `ghcr.io/v2a-dpo/v2a-dpo-scoring:0.1.0`."""
        return f"{self.registry.rstrip('/')}/{image}:{self.tag}"


def component(role: Role) -> Callable[[Callable[..., Any]], Any]:
    """The decorator of a component whose tasks have this `role`, and its image."""

    def define(function: Callable[..., Any]) -> Any:
        image = Images().reference(IMAGES[role])
        defined: Any = dsl.component(function, base_image=image, packages_to_install=[], install_kfp_package=False)
        defined.role = role
        return defined

    return define
