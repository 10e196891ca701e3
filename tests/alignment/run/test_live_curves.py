"""Training curves in MLflow while training goes on, on a real server that goes away and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.alignment.conftest import DURATION_S
from tests.mlflow_server import MLflowServer
from v2a_dpo.alignment.run.curves import _new_records, sync
from v2a_dpo.alignment.run.log import LOG, read_log
from v2a_dpo.config import AlignConfig, GeneratorConfig, Params, PrepareConfig, RegistryConfig
from v2a_dpo.errors import UserError
from v2a_dpo.stages.align import align
from v2a_dpo.tracking import live

pytestmark = pytest.mark.slow

STEPS = 60


@pytest.fixture
def params(mlflow_server_uri: str) -> Params:
    return Params(
        profile="tiny",
        generator=GeneratorConfig(family="tiny", variant="tiny", device="cpu"),
        prepare=PrepareConfig(duration_s=DURATION_S),
        align=AlignConfig(
            learning_rate=1e-4, steps=STEPS, batch_size=4, validation_share=0.2, validate_every=20, checkpoint_every=20
        ),
        registry=RegistryConfig(experiment=f"live-{uuid.uuid4().hex[:8]}"),
    )


def check_nothing_lost_or_doubled(params: Params, log: str, uri: str) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(params.registry.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["align.beta"] == "600.0"
    assert "system/cpu_utilization_percentage" in run.data.metrics
    records = read_log(Path(log) / LOG)
    assert len(records) == STEPS + 1  # the last one measures the validation pairs
    for key in ("loss", "implicit_accuracy", "gradient_norm", "validation_loss", "alarms", "step"):
        logged = client.get_metric_history(run.info.run_id, key)
        if key == "alarms":
            expected = [(record["step"], float(len(record[key]))) for record in records]
        else:
            expected = [(record["step"], float(record[key])) for record in records if record.get(key) is not None]
        assert Counter((metric.step, metric.value) for metric in logged) == Counter(expected), key


@pytest.fixture(autouse=True)
def sender_of_normal_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the lowest priority waits for cores that the tests of another process take."""
    monkeypatch.setattr(live, "_LOWEST_PRIORITY", 0)


def test_a_server_killed_in_the_middle_of_a_run_loses_and_doubles_nothing(
    params: Params, problem, mlflow_server: MLflowServer, tmp_path: Path
) -> None:
    arguments = {**problem.arguments(), "log": str(tmp_path / "log"), "output": str(tmp_path / "aligned")}
    client = MlflowClient(mlflow_server.uri)
    seen_before_the_kill = []

    def kill_and_restart(description: str, done: int, total: int) -> None:
        if description != "Aligning":
            return
        if done == 20:
            # Some records must have arrived, or there would be nothing to double.
            while not seen_before_the_kill:
                time.sleep(0.1)  # the sender has the lowest priority: it needs a core that nobody else wants
                experiment = client.get_experiment_by_name(params.registry.experiment)
                runs = client.search_runs([experiment.experiment_id]) if experiment else []
                seen_before_the_kill.extend(run for run in runs if "loss" in run.data.metrics)
            mlflow_server.kill()
        if done == 45:
            mlflow_server.start()

    align(params, **arguments, live=True, interval_s=0.1, progress=kill_and_restart)
    check_nothing_lost_or_doubled(params, arguments["log"], mlflow_server.uri)
    assert sync(arguments["log"]).sent == 0


def test_a_run_without_a_server_trains_and_is_sent_later(
    params: Params, problem, mlflow_server: MLflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    arguments = {**problem.arguments(), "log": str(tmp_path / "log"), "output": str(tmp_path / "aligned")}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", nowhere)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        align(params, **arguments, live=True, interval_s=0.1)
        with pytest.raises(UserError, match="server does not answer"):
            sync(arguments["log"])
    assert (tmp_path / "aligned" / "model.safetensors").exists()
    assert f"v2a-dpo sync-curves --log {arguments['log']}" in capfd.readouterr().err
    time_ms = {record["step"]: record["time_ms"] for record in read_log(Path(arguments["log"]) / LOG)}
    synced = sync(arguments["log"])
    assert (synced.records, synced.sent, synced.finished) == (STEPS + 1, STEPS + 1, True)
    assert sync(arguments["log"]).sent == 0
    client = MlflowClient(mlflow_server.uri)
    (run,) = client.search_runs([client.get_experiment_by_name(params.registry.experiment).experiment_id])
    # When it happened, not when it was sent.
    assert {item.step: item.timestamp for item in client.get_metric_history(run.info.run_id, "step")} == time_ms
    client.log_metric(run.info.run_id, "system/cpu_utilization_percentage", 1.0)
    check_nothing_lost_or_doubled(params, arguments["log"], mlflow_server.uri)


def test_a_training_that_was_stopped_goes_on_in_the_same_run(
    params: Params, problem, mlflow_server: MLflowServer, tmp_path: Path
) -> None:
    arguments = {**problem.arguments(), "log": str(tmp_path / "log"), "output": str(tmp_path / "aligned")}

    def stop(description: str, done: int, total: int) -> None:
        if description == "Aligning" and done == 33:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(params, **arguments, live=True, interval_s=0.1, progress=stop)
    assert not sync(arguments["log"]).finished
    align(params, **arguments, live=True, interval_s=0.1)  # from the checkpoint at 20: 13 steps are done again
    check_nothing_lost_or_doubled(params, arguments["log"], mlflow_server.uri)


KILLED_AT_33 = """
import json, os, signal, sys
from v2a_dpo.config import Params
from v2a_dpo.stages.align import align

def kill(description, done, total):
    if description == "Aligning" and done == 33:
        assert "mlflow" not in sys.modules
        os.kill(os.getpid(), signal.SIGKILL)

params, arguments = json.loads(sys.argv[1])
align(Params.model_validate(params), **arguments, live=True, interval_s=600.0, progress=kill)
"""


def test_what_a_killed_training_has_written_is_sent_by_the_process_it_leaves(
    params: Params, problem, mlflow_server: MLflowServer, tmp_path: Path
) -> None:
    arguments = {**problem.arguments(), "log": str(tmp_path / "log"), "output": str(tmp_path / "aligned")}
    given = json.dumps([params.model_dump(mode="json"), arguments])
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_33, given], check=False)
    assert killed.returncode == -signal.SIGKILL
    client = MlflowClient(mlflow_server.uri)
    deadline = time.monotonic() + 120
    steps: list[int] = []
    while len(steps) < 33 and time.monotonic() < deadline:
        time.sleep(0.2)
        experiment = client.get_experiment_by_name(params.registry.experiment)
        for run in client.search_runs([experiment.experiment_id]) if experiment else []:
            steps = sorted(metric.step for metric in client.get_metric_history(run.info.run_id, "loss"))
    assert steps == list(range(33))


def test_a_sender_that_is_killed_does_not_stop_the_training(
    params: Params, problem, mlflow_server: MLflowServer, tmp_path: Path, caplog
) -> None:
    arguments = {**problem.arguments(), "log": str(tmp_path / "log"), "output": str(tmp_path / "aligned")}

    def kill_the_sender(description: str, done: int, total: int) -> None:
        if description == "Aligning" and done == 20:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            (sender,) = [
                int(child)
                for child in children
                if arguments["log"].encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            ]
            os.kill(sender, signal.SIGKILL)

    align(params, **arguments, live=True, interval_s=600.0, progress=kill_the_sender)
    assert "the log keeps them" in caplog.text
    assert (tmp_path / "aligned" / "model.safetensors").exists()
    assert sync(arguments["log"]).sent == STEPS + 1


def test_a_record_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_text('{"step": 0}\n{"st')
    with log.open("rb") as growing:
        assert _new_records(growing) == [{"step": 0}]
        assert _new_records(growing) == []
        with log.open("a") as writer:
            writer.write('ep": 1}\n{"step": 2}\n')
        assert _new_records(growing) == [{"step": 1}, {"step": 2}]


def test_a_folder_that_no_live_run_left_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking\.json"):
        sync(str(tmp_path))
