"""One finished miniature loop that all end-to-end tests look at."""

import shutil
from pathlib import Path

import pytest

from tests import forked
from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.orchestration.loop import run
from v2a_dpo.params import load_params

MINIATURE = Path(__file__).with_name("miniature.yaml")


@pytest.fixture(scope="session", autouse=True)
def more_packages_loaded():
    """What programs of these tests need beyond those of other tests."""
    forked.load_too(
        "bigvgan.bigvgan",
        "dvc.cli.parser",
        "dvc.dvcfile",
        "dvc.repo.experiments",
        "scmrepo.git",
        "dvc_s3",
        "kfp.dsl.executor",
        "open_clip",
    )


@pytest.fixture(scope="session")
def params():
    return load_params(MINIATURE)


@pytest.fixture(scope="session")
def loop(tmp_path_factory, database_template, params):
    """A finished loop in a folder with a space and a letter beyond ASCII in its name."""
    root = tmp_path_factory.mktemp("loop") / "my löop"
    shutil.copy(database_template, root.parent / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root.parent / 'mlflow.db'}")
        patch.chdir(root.parent)
        run(params, root=str(root))
    return Layout(str(root))
