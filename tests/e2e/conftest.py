"""One finished miniature loop that all end-to-end tests look at."""

from pathlib import Path

import pytest

from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.orchestration.loop import run
from v2a_dpo.params import load_params

MINIATURE = Path(__file__).with_name("miniature.yaml")


@pytest.fixture(scope="session")
def params():
    return load_params(MINIATURE)


@pytest.fixture(scope="session")
def loop(tmp_path_factory, params):
    """A finished loop in a folder with a space and a letter beyond ASCII in its name."""
    root = tmp_path_factory.mktemp("loop") / "my löop"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root.parent / 'mlflow.db'}")
        patch.chdir(root.parent)
        run(params, root=str(root))
    return Layout(str(root))
