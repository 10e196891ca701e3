from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.connection import Tracking, tracking_uri
from v2a_dpo.tracking.failures import public_uri
from v2a_dpo.tracking.run import DataInput
from v2a_dpo.tracking.source import source_tags
from v2a_dpo.tracking.upload import LiveTarget, MetricUpload
from v2a_dpo.tracking.values import MetricPoint, curve, flatten, numbers


@pytest.fixture
def tracking(mlflow_uri: str) -> Tracking:
    return Tracking.connect("experiment")


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(mlflow_uri)


def test_an_experiment_is_created_once_with_its_files_in_the_working_folder(
    tracking: Tracking, client: MlflowClient, tmp_path: Path
) -> None:
    assert Tracking.connect("experiment").experiment_id == tracking.experiment_id
    experiment = client.get_experiment(tracking.experiment_id)
    assert experiment.name == "experiment"
    assert experiment.artifact_location == (tmp_path / "mlruns").as_uri()


def test_a_run_ends_finished_and_a_failing_one_failed(tracking: Tracking, client: MlflowClient) -> None:
    with tracking.run("good", fingerprint="f1") as good:
        assert client.get_run(good.run_id).info.status == "RUNNING"
    with pytest.raises(KeyboardInterrupt), tracking.run("bad", fingerprint="f2") as bad:
        raise KeyboardInterrupt
    assert client.get_run(good.run_id).info.status == "FINISHED"
    assert client.get_run(bad.run_id).info.status == "FAILED"
    found = tracking.finished_run("f1")
    assert found is not None
    assert found.run_id == good.run_id
    assert tracking.finished_run("f2") is None


def test_nested_runs_belong_to_their_parent_alone(tracking: Tracking) -> None:
    with tracking.run("loop", fingerprint="f") as parent:
        for name in ("mine", "align"):
            with tracking.run(name, fingerprint="f", parent=parent) as nested:
                last = nested.run_id
    assert list(tracking.children(parent)) == ["mine", "align"]
    assert tracking.children(parent)["align"] == last
    found = tracking.finished_run("f")
    assert found is not None
    assert found.run_id == parent.run_id


def test_only_unfinished_runs_are_deleted(tracking: Tracking, client: MlflowClient) -> None:
    with tracking.run("loop", fingerprint="f") as finished:
        pass
    with tracking.run("other", fingerprint="g") as other:
        pass
    killed = client.create_run(tracking.experiment_id, tags={"v2a_dpo.fingerprint": "f"}).info.run_id
    child = client.create_run(
        tracking.experiment_id, tags={"v2a_dpo.fingerprint": "f", "mlflow.parentRunId": killed}
    ).info.run_id
    tracking.delete_unfinished("f")
    stages = {run: client.get_run(run).info.lifecycle_stage for run in (finished.run_id, other.run_id, killed, child)}
    assert list(stages.values()) == ["active", "active", "deleted", "deleted"]


def test_more_parameters_and_metrics_than_a_request_takes_arrive_whole(
    tracking: Tracking, client: MlflowClient
) -> None:
    points = [MetricPoint("loss", step / 10, step) for step in range(2345)]
    with tracking.run("align", fingerprint="f") as run:
        run.log_params({"section": {f"p{index}": index for index in range(250)}})
        run.log_metrics(points)
        run.log_metrics([])
    logged = client.get_run(run.run_id)
    assert logged.data.params == {f"section.p{index}": str(index) for index in range(250)}
    history = client.get_metric_history(run.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(point.step, point.value) for point in points]


def test_data_sets_and_texts_are_kept_with_the_run(tracking: Tracking, client: MlflowClient, tmp_path: Path) -> None:
    with tracking.run("align", fingerprint="f") as run:
        run.log_data([])
        run.log_data([DataInput("pairs", "s3://bucket/pairs", "d" * 32, "training"), DataInput("p", "/p", "e", "x")])
        run.log_text("größer\n", "tables/table.md")
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    assert [(item.dataset.name, item.dataset.digest, item.dataset.source_type) for item in inputs] == [
        ("pairs", "d" * 32, "s3"),
        ("p", "e", "local"),
    ]
    assert inputs[0].dataset.source == '{"uri": "s3://bucket/pairs"}'
    assert inputs[0].tags[0].value == "training"
    file = client.download_artifacts(run.run_id, "tables/table.md", str(tmp_path))
    assert Path(file).read_text(encoding="utf-8") == "größer\n"


def test_nested_values_become_dotted_names_and_lists_stay_whole() -> None:
    values = {"seed": 0, "align": {"beta": 600.0, "curriculum": True}, "curve": [1.0, 2.0], "name": "tiny", "no": None}
    assert flatten(values) == {
        "seed": "0",
        "align.beta": "600.0",
        "align.curriculum": "true",
        "curve": "[1.0, 2.0]",
        "name": "tiny",
        "no": "null",
    }


def test_only_numbers_become_metrics() -> None:
    values = {"a": 1, "b": {"c": 2.5, "d": "x", "e": None, "f": True, "g": [1, 2]}}
    assert numbers(values, "p/") == [MetricPoint("p/a", 1), MetricPoint("p/b/c", 2.5)]


def test_a_log_becomes_one_point_a_number_at_its_step() -> None:
    records = [{"step": 3, "phase": "easy", "loss": 0.5, "norm": None, "alarms": ["a", "b"]}, {"step": 4, "loss": 0.25}]
    assert curve(records, prefix="x/") == [
        MetricPoint("x/loss", 0.5, 3),
        MetricPoint("x/alarms", 2, 3),
        MetricPoint("x/loss", 0.25, 4),
    ]


def test_a_password_in_the_address_is_not_shown() -> None:
    assert public_uri("https://user:secret@host:5000/x@y") == "https://host:5000/x@y"
    assert public_uri("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


def test_runs_name_the_commit_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert source_tags() == {}

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    Path("file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert source_tags() == {"mlflow.source.git.commit": commit, "git.modified": "false"}
    Path("file").write_text("2")
    assert source_tags() == {"mlflow.source.git.commit": commit, "git.modified": "true"}


def test_a_server_that_does_not_answer_is_the_users_error(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as caught:
        Tracking.connect("experiment")
    assert caught.value.where == f"http://127.0.0.1:{port}"


def test_a_database_that_cannot_be_opened_is_the_users_error(
    mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.db").write_text("This is not a database. " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/no.db")
    with pytest.raises(UserError, match="MLflow"):
        Tracking.connect("experiment")


@pytest.mark.slow
def test_a_new_database_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def stop(new: Path, database: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", stop)
        with pytest.raises(KeyboardInterrupt):
            Tracking.connect("experiment", uri=uri)
    assert list(tmp_path.iterdir()) == []

    link = os.link

    def come_second(new: Path, database: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        Tracking.connect("of the faster process", uri=uri)
        link(new, database)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", come_second)
        tracking = Tracking.connect("experiment", uri=uri)
    names = {experiment.name for experiment in tracking.client.search_experiments()}
    assert {"of the faster process", "experiment"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_without_a_setting_everything_stays_in_the_working_folder(
    database_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == "sqlite:///mlflow.db"
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(database_template.read_bytes())
    for name in ("config.json", "model.safetensors"):
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / name).touch()
    program = (
        "from pathlib import Path\n"
        "from v2a_dpo.registry.versions import ModelFolder, Registry\n"
        "from v2a_dpo.tracking.connection import Tracking\n"
        "tracking = Tracking.connect('experiment')\n"
        "registry, model = Registry(tracking, 'generator'), ModelFolder.of(Path('model'), role='base')\n"
        "with tracking.run('loop', fingerprint='f') as run:\n"
        "    run.log_text('x', 'file.txt')\n"
        "    model_id = registry.log_model(model, run_id=run.run_id)\n"
        "registry.register(model, model_id=model_id, run_id=run.run_id, tags={})\n"
        "print(run.run_id)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "mlruns" / done.stdout.strip() / "artifacts" / "file.txt").read_text() == "x"
    assert sorted(item.name for item in folder.iterdir()) == ["mlflow.db", "mlruns", "model"]


@pytest.mark.parametrize(
    "contact",
    [lambda: Tracking.connect("anything"), lambda: MetricUpload.open(LiveTarget("key", "identity", "any", "run", {}))],
)
def test_an_image_without_mlflow_says_so_and_what_to_install(monkeypatch, contact):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mlflow", "boto3")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="not installed") as raised:
        contact()
    assert "tracking" in raised.value.remedy


def test_a_new_database_leaves_our_warnings_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = logging.getLogger("v2a_dpo.something")
    monkeypatch.setattr(own, "disabled", False)
    Tracking.connect("first", uri=f"sqlite:///{tmp_path}/new.db")
    assert not own.disabled
