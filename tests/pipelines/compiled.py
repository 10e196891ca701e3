"""Pipelines compiled for tests: with fixed image names, so that a new version of the package changes no golden file.

`python -m tests.pipelines.compiled` writes the golden files anew.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from components.definition import Images
from pipelines.compilation import PIPELINES, build_pipeline, compile_pipeline

GOLDEN = Path(__file__).with_name("golden")
IMAGES = Images("registry.example/v2a-dpo", "1.2.3")
#: The preset that golden files are compiled for: it has everything that another one lacks.
GOLDEN_PRESET = "gpu"


def compiled(name: str, preset: str, folder: Path) -> Path:
    """The path of the pipeline `name` compiled for `preset` into `folder`."""
    return compile_pipeline(name, output=folder / f"{name}-{preset}.yaml", preset=preset, images=IMAGES)


@cache
def documents(name: str, preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the pipeline `name` is compiled to for `preset`: its IR, and the settings for Kubernetes."""
    pipeline = build_pipeline(name, preset=preset, images=IMAGES)
    return MessageToDict(pipeline.pipeline_spec), MessageToDict(pipeline.platform_spec)


def executors(name: str, preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline's executors by label, and the settings for Kubernetes of each."""
    spec, platform = documents(name, preset)
    return spec["deploymentSpec"]["executors"], platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def tasks(name: str, preset: str) -> dict[str, dict[str, Any]]:
    """All tasks of the pipeline and of its parts that run in a pod, by the label of their executor."""
    spec, _ = documents(name, preset)
    labelled = {}
    for component in [spec["root"], *spec["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if label:
                labelled[label] = task
    return labelled


def main() -> None:
    """Writes all golden files."""
    for name in PIPELINES:
        print(compiled(name, GOLDEN_PRESET, GOLDEN))


if __name__ == "__main__":
    main()
