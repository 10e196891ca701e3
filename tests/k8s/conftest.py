"""Both overlays as kustomize builds them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("dev", "prod")
KUBERNETES_VERSION = "1.34"


def build(folder: Path) -> list[dict[str, Any]]:
    """The manifests of a kustomization. Without kubectl the test is skipped, but fails where CI is set."""
    if shutil.which("kubectl") is None:
        outcome = pytest.fail if os.environ.get("CI") else pytest.skip
        outcome(f"kubectl is missing; with it: kubectl kustomize {folder}")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session")
def built() -> dict[str, list[dict[str, Any]]]:
    """The manifests by overlay."""
    return {overlay: build(K8S / "overlays" / overlay) for overlay in OVERLAYS}


@pytest.fixture(scope="session")
def weights_job() -> list[dict[str, Any]]:
    """What fills the volume with official checkpoints, applied beside an overlay."""
    return build(K8S / "weights")


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, built: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The manifests of one overlay; a test that takes it runs for each."""
    return built[request.param]
