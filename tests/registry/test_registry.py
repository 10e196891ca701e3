from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.finished_loop import Loop
from v2a_dpo.errors import UserError
from v2a_dpo.registry.versions import ModelFolder, Registry
from v2a_dpo.tracking.connection import Tracking


@pytest.fixture
def registry(mlflow_uri: str) -> Registry:
    return Registry(Tracking.connect("loops"), "generator")


@pytest.fixture
def run_id(mlflow_uri: str) -> str:
    tracking = Tracking.connect("loops")
    with tracking.run("loop", fingerprint="f") as run:
        return run.run_id


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(mlflow_uri)


def model(tmp_path: Path, *, role: str = "aligned", seed: int = 1) -> ModelFolder:
    folder = Loop(tmp_path, params=None).model(f"{role}-{seed}", seed)  # type: ignore[arg-type]
    return ModelFolder.of(folder, role=role)


def test_a_version_holds_exactly_the_files_of_the_model_folder(
    registry: Registry, client: MlflowClient, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    folder = model(tmp_path)
    model_id = registry.log_model(folder, run_id=run_id)
    version = registry.register(folder, model_id=model_id, run_id=run_id, tags={"profile": "tiny"})
    registry.set_alias("candidate", version)
    mlflow.set_tracking_uri(client.tracking_uri)
    copy = Path(mlflow.artifacts.download_artifacts("models:/generator@candidate", dst_path=str(tmp_path / "copy")))
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == {
        name: (folder.folder / name).read_bytes() for name in ("config.json", "model.safetensors")
    }
    stored = client.get_model_version("generator", version.version)
    assert stored.tags == {
        "profile": "tiny",
        "v2a_dpo.fingerprint": folder.fingerprint,
        "v2a_dpo.role": "aligned",
        "v2a_dpo.logged_model": model_id,
    }
    assert stored.run_id == run_id


def test_the_same_model_is_one_version_and_its_tags_are_those_of_the_last_time(
    registry: Registry, client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    folder = model(tmp_path)
    versions = []
    for gain in ("1.0", "2.0"):
        model_id = registry.log_model(folder, run_id=run_id)
        versions.append(registry.register(folder, model_id=model_id, run_id=run_id, tags={"metric.ib_score": gain}))
    assert versions[0] == versions[1]
    assert client.get_model_version("generator", "1").tags["metric.ib_score"] == "2.0"
    assert len(client.search_model_versions("name = 'generator'")) == 1
    assert len(client.search_logged_models([Tracking.connect("loops").experiment_id])) == 1


def test_other_weights_or_another_role_are_another_version(
    registry: Registry, client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    numbers = []
    for folder in (model(tmp_path), model(tmp_path, seed=2), model(tmp_path, role="base")):
        model_id = registry.log_model(folder, run_id=run_id)
        numbers.append(registry.register(folder, model_id=model_id, run_id=run_id, tags={}).version)
    assert numbers == ["1", "2", "3"]


def test_an_upload_that_was_cut_off_is_replaced(
    registry: Registry, client: MlflowClient, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            registry.log_model(folder, run_id=run_id)
    first = registry.log_model(folder, run_id=run_id)
    assert registry.log_model(folder, run_id=run_id) == first
    found = client.search_logged_models([Tracking.connect("loops").experiment_id])
    assert [(item.model_id, item.status) for item in found] == [(first, "READY")]


@pytest.mark.parametrize("name", ["weights.pt", "code.py", "model.pkl"])
def test_a_folder_with_anything_but_safe_weights_is_refused(tmp_path: Path, name: str) -> None:
    folder = Loop(tmp_path, params=None).model("m", 1)  # type: ignore[arg-type]
    (folder / name).touch()
    with pytest.raises(UserError, match=r"holds config.json and \*.safetensors") as caught:
        ModelFolder.of(folder, role="base")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_configuration_or_weights_is_refused(tmp_path: Path, missing: str) -> None:
    folder = Loop(tmp_path, params=None).model("m", 1)  # type: ignore[arg-type]
    (folder / missing).unlink()
    with pytest.raises(UserError, match="A model folder holds"):
        ModelFolder.of(folder, role="base")
