"""From MLflow's registry to a served model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.serving.conftest import Served
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.registry.versions import ModelFolder, Registry
from v2a_dpo.serving.model_source import model_folder, packaged_folder, packaged_model
from v2a_dpo.tracking.connection import Tracking


@pytest.fixture
def registered(served: Served, database_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registered version's address, in a local database."""
    shutil.copy(database_template, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "2")  # so that what `connect` sets does not outlive the test
    tracking = Tracking.connect("serving")
    registry = Registry(tracking, "sounds", packaged=lambda folder: packaged_folder(folder, served.settings))
    model = ModelFolder.of(served.aligned, role="aligned")
    with tracking.run("loop", fingerprint="f") as run:
        model_id = registry.log_model(model, run_id=run.run_id)
    registry.set_alias("champion", registry.register(model, model_id=model_id, run_id=run.run_id, tags={}))
    return "models:/sounds@champion"


def test_mlflow_serves_a_registered_version_as_it_is(registered: str, served: Served) -> None:
    import mlflow
    import pandas

    mlflow.set_tracking_uri(None)
    answer = mlflow.pyfunc.load_model(registered).predict(pandas.DataFrame({"video": [served.clip.read_bytes()]}))
    assert decode_flac(answer["audio"][0])[0].numel() == 32_000


def test_a_registered_version_gives_the_model_folder_back(registered: str, served: Served) -> None:
    with model_folder(registered) as folder:
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
            file.name: file.read_bytes() for file in served.aligned.iterdir()
        }
    with packaged_model(registered, served.settings) as packaged:
        assert (packaged / "MLmodel").is_file()


def test_a_model_that_is_not_registered_is_a_users_mistake(registered: str) -> None:
    for address in ("models:/sounds@nobody", "models:/none/1"):
        with pytest.raises(UserError, match="no such model"), model_folder(address):
            pass
