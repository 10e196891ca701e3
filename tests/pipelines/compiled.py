"""Pipelines compiled for tests: with fixed image names, so that a new version of the package changes no golden file.

`python -m tests.pipelines.compiled` writes the golden files anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from components.definition import Images
from pipelines.compilation import PIPELINES, compile_pipeline

GOLDEN = Path(__file__).with_name("golden")
IMAGES = Images("registry.example/v2a-dpo", "1.2.3")
#: The preset that golden files are compiled for: it has everything that another one lacks.
GOLDEN_PRESET = "gpu"


def compiled(name: str, preset: str, folder: Path) -> Path:
    """The path of the pipeline `name` compiled for `preset` into `folder`."""
    return compile_pipeline(name, output=folder / f"{name}-{preset}.yaml", preset=preset, images=IMAGES)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline's executors by label, and what Kubernetes is told of each."""
    spec, platform = yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    executors = spec["deploymentSpec"]["executors"]
    return executors, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def tasks(path: Path) -> dict[str, dict[str, Any]]:
    """All tasks of the pipeline and of its parts that run in a pod, by the label of their executor."""
    spec = next(yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    found = {}
    for component in [spec["root"], *spec["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if label:
                found[label] = task
    return found


def main() -> None:
    """Writes all golden files."""
    for name in PIPELINES:
        print(compiled(name, GOLDEN_PRESET, GOLDEN))


if __name__ == "__main__":
    main()
