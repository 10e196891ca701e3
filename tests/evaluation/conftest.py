from pathlib import Path

import pytest
from safetensors.numpy import load_file

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"


@pytest.fixture(scope="session")
def golden():
    """Reference numbers of the published metrics: arrays by name."""
    return load_file(GOLDEN / "tiny.safetensors")
