from __future__ import annotations

import os
import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import av
import pytest

from tests.serving.conftest import Served
from v2a_dpo.config import ServeConfig
from v2a_dpo.errors import UserError
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.registry.versions import ModelFolder, Registry
from v2a_dpo.serving.packaging import (
    model_folder,
    package_model,
    packaged_folder,
    packaged_model,
    pinned_requirements,
)
from v2a_dpo.serving.scoring_server import serve_packaged
from v2a_dpo.tracking.connection import Tracking

LOCK = Path(__file__).parents[2] / "requirements.lock"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(packaged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packaged, tmp_path / "copy"))


def test_a_packaged_model_holds_the_folder_file_by_file_and_no_pickle(packaged: Path, served: Served) -> None:
    generator = packaged / "artifacts" / "generator"
    assert {name: (generator / name).read_bytes() for name in files(generator)} == {
        name: (served.aligned / name).read_bytes() for name in files(served.aligned)
    }
    assert {Path(name).suffix for name in files(packaged)} == {
        "",
        ".json",
        ".py",
        ".safetensors",
        ".sha256",
        ".txt",
        ".yaml",
    }


def test_a_packaged_model_names_no_path_of_the_machine_that_made_it(packaged: Path, served: Served) -> None:
    text = "".join(path.read_text() for path in packaged.iterdir() if path.is_file())
    for path in (packaged.parent, served.aligned.parent, Path(__file__).parents[2]):
        assert str(path) not in text


def test_sha256sum_reads_the_checksums(packaged: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "checksums.sha256"]
    done = subprocess.run(command, cwd=packaged / "artifacts" / "generator", capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK") == 4


def test_requirements_are_pinned_to_the_locks_versions() -> None:
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK.read_text(), flags=re.MULTILINE))
    pinned = dict(line.split("==") for line in pinned_requirements())
    assert {"av", "mlflow", "open-clip-torch", "safetensors", "torch"} < set(pinned)
    assert "gradio" not in pinned
    pinned.pop("v2a-dpo")
    assert pinned == {name: locked[name] for name in pinned}


def test_mlflow_loads_it_and_a_video_comes_back_with_sound(packaged: Path, served: Served) -> None:
    import mlflow
    import pandas

    model = mlflow.pyfunc.load_model(str(packaged))
    clip = served.clip.read_bytes()
    answer = model.predict(pandas.DataFrame({"video": [clip, clip], "prompt": ["a bell", None], "seed": [1, 2]}))
    assert list(answer["seed"]) == [1, 2]
    for row in answer.to_dict("records"):
        audio, sample_rate = decode_flac(row["audio"])
        assert (sample_rate, row["sample_rate"]) == (16_000, 16_000)
        assert audio.abs().max() > 0.001
        with av.open(BytesIO(row["video"])) as video:
            assert video.streams.video[0].codec_context.name == "h264"
            assert sum(frame.samples for frame in video.decode(audio=0)) / 16_000 == pytest.approx(2.0, abs=0.15)


def test_a_server_may_be_given_other_limits_when_it_starts(
    packaged: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas

    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", '{"max_duration_s": 1.5, "duration_s": 1.0}')
    model = mlflow.pyfunc.load_model(str(packaged), model_config={"video_root": str(served.clip.parent)})
    answer = model.predict(pandas.DataFrame({"video_path": ["clip.mp4"]}))
    assert decode_flac(answer["audio"][0])[0].numel() == 16_000
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"between 1 and 1\.5"):
        model.predict(pandas.DataFrame({"video_path": ["clip.mp4"], "seconds": [2.0]}))


def damage(copy: Path, change: str) -> str:
    weights = copy / "artifacts" / "generator" / "model.safetensors"
    if change == "a bit":
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif change == "cut off":
        os.truncate(weights, 1000)
    elif change == "missing":
        weights.unlink()
    elif change == "no checksums":
        (copy / "artifacts" / "generator" / "checksums.sha256").unlink()
    else:
        (weights.parent / "adapter.safetensors").write_bytes(b"x")
    return weights.name


@pytest.mark.parametrize("change", ["a bit", "cut off", "missing", "one more", "no checksums"])
def test_a_damaged_model_is_refused_at_load_by_name_and_checksum(copy: Path, change: str) -> None:
    import mlflow

    recorded = dict(
        line.split("  ")[::-1] for line in (copy / "artifacts/generator/checksums.sha256").read_text().splitlines()
    )
    name = damage(copy, change)
    with pytest.raises(mlflow.exceptions.MlflowException) as caught:
        mlflow.pyfunc.load_model(str(copy))
    said = str(caught.value)
    if change in {"a bit", "cut off", "missing"}:
        assert name in said
        assert recorded[name] in said
    else:
        assert {"one more": "adapter.safetensors", "no checksums": "no recorded checksums"}[change] in said
    what = r"checksums|adapter|model\.safetensors"
    with pytest.raises(UserError, match=what), model_folder(str(copy)):
        pass
    with pytest.raises(UserError, match=what):
        serve_packaged(copy, ServeConfig(), host="127.0.0.1", port=1, timeout_s=1)


def test_links_take_the_place_of_a_second_copy(served: Served) -> None:
    import mlflow

    with packaged_folder(served.base, served.settings) as folder:
        assert (folder / "artifacts" / "generator" / "model.safetensors").is_symlink()
        mlflow.pyfunc.load_model(str(folder))


def test_a_folder_without_a_model_and_a_full_target_are_refused(served: Served, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        package_model(tmp_path, tmp_path / "new", served.settings)
    with pytest.raises(UserError, match="not empty"):
        package_model(served.base, served.aligned, served.settings)


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
