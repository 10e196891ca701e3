"""What MLflow refuses is told with its true cause and a remedy; names may hold any character."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.finished_loop import Loop
from tests.loopback import LoopbackServer, QuietHandler
from v2a_dpo.config import RegistryConfig
from v2a_dpo.errors import UserError
from v2a_dpo.registry.ledger import EXPERIMENT, LEDGER_TAG, Ledger, ensure_registered_model
from v2a_dpo.stages.promote import promote
from v2a_dpo.stages.register import register
from v2a_dpo.tracking.connection import Tracking
from v2a_dpo.tracking.failures import failures_reported

NAMES = ("Anna's runs", 'the "best" runs', "'\"`%_#1?.../ü 音")


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_may_have_any_name(mlflow_uri: str, name: str) -> None:
    first = Tracking.connect(name)
    assert first.client.get_experiment(first.experiment_id).name == name
    assert Tracking.connect(name).experiment_id == first.experiment_id


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(mlflow_uri: str) -> None:
    first = Tracking.connect("Anna's runs")
    first.client.delete_experiment(first.experiment_id)
    with pytest.raises(UserError, match='The MLflow experiment "Anna\'s runs" was deleted') as caught:
        Tracking.connect("Anna's runs")
    assert f"mlflow experiments restore --experiment-id {first.experiment_id}" in caught.value.remedy
    assert "registry.experiment=" in caught.value.remedy
    first.client.restore_experiment(first.experiment_id)
    assert Tracking.connect("Anna's runs").experiment_id == first.experiment_id


@pytest.mark.slow
def test_a_loop_is_registered_and_promoted_under_names_with_quotes(mlflow_uri: str, loop: Loop, tmp_path) -> None:
    named = RegistryConfig(experiment='Anna\'s "runs"', model_name='Anna\'s "model"')
    params = loop.params.model_copy(update={"registry": named})
    output = str(tmp_path / "registration.json")
    first = register(params, **loop.arguments, output=output)
    assert register(params, **loop.arguments, output=output) == first
    assert first.model_name == named.model_name
    promoted = promote(params, version="candidate", override=True, reason="to hear it", to_registry="Anna's 'copy'")
    assert promoted.model_name == "Anna's 'copy'"
    client = MlflowClient(mlflow_uri)
    assert str(client.get_model_version_by_alias("Anna's 'copy'", "champion").version) == "1"


def test_deleted_promotions_are_said_to_be_deleted(mlflow_uri: str, loop: Loop, tmp_path) -> None:
    client = MlflowClient(mlflow_uri)
    client.delete_experiment(client.create_experiment(EXPERIMENT))
    with pytest.raises(UserError, match=f"The MLflow experiment '{EXPERIMENT}' was deleted"):
        register(loop.params, **loop.arguments, output=str(tmp_path / "registration.json"))


def test_a_deleted_ledger_is_named_with_the_command_that_restores_it(mlflow_uri: str) -> None:
    client = Tracking.connect("loops").client
    ensure_registered_model(client, "generator")
    run_id = client.get_registered_model("generator").tags[LEDGER_TAG]
    client.delete_run(run_id)
    with pytest.raises(UserError, match="holds the promotions was deleted") as caught:
        Ledger(client, "generator").entries()
    assert f"mlflow runs restore --run-id {run_id}" in caught.value.remedy
    client.restore_run(run_id)
    assert Ledger(client, "generator").entries() == []


@pytest.mark.parametrize(
    ("status", "answer", "cause", "remedy"),
    [
        (401, b"You are not authenticated.", "refuses these credentials", "MLFLOW_TRACKING_USERNAME"),
        (403, b"Invalid Host header", "does not permit this. .*Invalid Host header", "--allowed-hosts"),
        (403, {"error_code": "PERMISSION_DENIED", "message": "no"}, "does not permit this. .*no", "right"),
        (404, b"<html>nothing here</html>", "server at this address is not MLflow", "port"),
        (404, {"detail": "Not Found"}, "server at this address is not MLflow", "port"),
        (200, b"<html>a page</html>", "server at this address is not MLflow", "port"),
        (502, b"<html>bad gateway</html>", "server does not answer. .*502", "runs"),
        (400, {"error_code": "INVALID_STATE", "message": "x"}, "refused the request. .*INVALID_STATE", "Correct that"),
    ],
)
def test_a_servers_refusal_has_its_own_cause(
    mlflow_uri: str, monkeypatch: pytest.MonkeyPatch, status: int, answer: object, cause: str, remedy: str
) -> None:
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    class Server(QuietHandler):
        def do_GET(self) -> None:
            self.reply(status, content, "text/html" if isinstance(answer, bytes) else "application/json")

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with LoopbackServer(Server) as server, pytest.raises(UserError, match=cause) as caught:
        Tracking.connect("loops", uri=server.url)
    assert caught.value.where == server.url
    assert remedy in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("localhost:5000", "not the address of an MLflow"),
        ("http://localhost:port", "not the address of an MLflow"),
        ("http://no-such-host.invalid:5000", "server does not answer"),
        ("sqlite:///no.db", "database cannot be used"),
    ],
)
def test_a_wrong_address_is_told_apart_from_a_server_that_is_away(mlflow_uri: str, uri: str, cause: str) -> None:
    Path("no.db").write_text("This is not a database. " * 100)
    with pytest.raises(UserError, match=cause) as caught:
        Tracking.connect("loops", uri=uri)
    assert "MLFLOW_TRACKING_URI" in caught.value.remedy


def test_a_bucket_that_is_missing_is_no_fault_of_mlflows_server(
    s3_environment: None, mlflow_uri: str, tmp_path
) -> None:
    (tmp_path / "file").write_text("x")
    told = pytest.raises(UserError, match=r"S3 refuses access to MLflow's files\. .*NoSuchBucket")
    with told as caught, failures_reported(mlflow_uri):
        boto3.client("s3").upload_file(str(tmp_path / "file"), "no-such-bucket", "file")
    assert "MLFLOW_S3_ENDPOINT_URL" in caught.value.remedy


def test_what_mlflow_refuses_for_a_reason_of_its_own_keeps_its_words(mlflow_uri: str) -> None:
    client = MlflowClient(mlflow_uri)
    client.create_registered_model("generator")
    told = pytest.raises(UserError, match=r"refused the request\. .*generator.* already exists")
    with told, failures_reported(mlflow_uri):
        client.create_registered_model("generator")
    with pytest.raises(UserError, match=r"refused the request\. .*why\."), failures_reported(mlflow_uri):
        raise MlflowException("why", error_code=3)
