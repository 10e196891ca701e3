from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from tests.finished_loop import Loop, comparison
from v2a_dpo.alignment.run.log import read_log
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.folder import CURVE, read_curve, write_curve
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.registry.description import metric_tags
from v2a_dpo.registry.evidence import lineage_of
from v2a_dpo.registry.registration import Registration
from v2a_dpo.registry.stage_records import interval_points
from v2a_dpo.stages.register import register
from v2a_dpo.tracking.run import TrackedRun
from v2a_dpo.tracking.upload import LiveTarget, MetricUpload


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(mlflow_uri)


@pytest.fixture
def registration(loop: Loop, mlflow_uri: str, tmp_path: Path) -> Registration:
    return register(loop.params, **loop.arguments, output=str(tmp_path / "registration.json"))


def active_runs(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("loops")
    return list(client.search_runs([experiment.experiment_id]))


def test_the_loop_is_one_run_with_a_nested_run_a_stage(registration: Registration, client: MlflowClient) -> None:
    assert list(registration.runs) == [
        "score",
        "annotate",
        "train-audioscore",
        "mine",
        "align",
        "evaluate",
    ]
    parent = client.get_run(registration.run_id)
    assert parent.data.params["align.beta"] == "600.0"
    assert parent.data.params["registry.model_name"] == "generator"
    assert parent.data.tags["profile"] == "tiny"
    assert {run.info.status for run in active_runs(client)} == {"FINISHED"}
    assert len(active_runs(client)) == 7
    scoring = client.get_run(registration.runs["score"])
    assert (
        scoring.data.metrics.items() >= {"scores/rows": 36.0, "scores/quarantined": 0.0, "scores/shards": 1.0}.items()
    )
    assert [item.dataset.name for item in scoring.inputs.dataset_inputs] == ["scores"]


def test_metrics_come_with_their_intervals_and_belong_to_their_models(
    registration: Registration, client: MlflowClient
) -> None:
    metrics = client.get_run(registration.runs["evaluate"]).data.metrics
    assert metrics["base/ib_score"] == 20.0
    assert metrics["aligned/ib_score_low"] == 21.5
    assert metrics["aligned/difference/desync_s_p_two_sided"] == 0.04
    assert metrics["aligned/win_rate_high"] == 0.8
    assert metrics["clips"] == 64
    for role, other in (("base", "aligned"), ("aligned", "base")):
        keys = {metric.key for metric in client.get_logged_model(registration.versions[role].model_id).metrics}
        assert f"{role}/ib_score" in keys
        assert f"{other}/ib_score" not in keys


def test_training_curves_keep_their_steps(registration: Registration, client: MlflowClient) -> None:
    losses = client.get_metric_history(registration.runs["align"], "loss")
    assert [metric.step for metric in losses] == list(range(1500))
    assert losses[900].value == 0.7 - 0.1
    assert len(client.get_metric_history(registration.runs["train-audioscore"], "history/validation_loss")) == 3
    assert "validation/accuracy" in client.get_run(registration.runs["train-audioscore"]).data.metrics
    assert client.get_run(registration.runs["mine"]).data.metrics["candidates"] == 36


def test_from_a_run_one_walks_back_to_the_shards_of_its_data(
    registration: Registration, client: MlflowClient, loop: Loop, tmp_path: Path
) -> None:
    run = client.get_run(registration.runs["align"])
    digests = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    pairs = Dataset.open(loop.arguments["pairs"])
    assert digests == {"pairs": pairs.fingerprint, "ratings": Dataset.open(str(loop.root / "ratings")).fingerprint}
    file = client.download_artifacts(run.info.run_id, "manifests/pairs.json", str(tmp_path))
    manifest = json.loads(Path(file).read_text())
    assert manifest["shards"][0]["sha256"] == pairs.shards[0].sha256
    assert manifest["inputs"]["scores"] == Dataset.open(str(loop.root / "scores")).fingerprint


@pytest.mark.slow
def test_curves_that_were_sent_while_training_ran_are_nested_and_not_sent_again(
    loop: Loop, client: MlflowClient, tmp_path: Path
) -> None:
    target = LiveTarget("key", "identity", "loops", "align", {"align.steps": "1500"})
    write_json(loop.root / "alignment" / "tracking.json", asdict(target))
    with MetricUpload.open(target) as upload:
        upload.send(read_log(loop.root / "alignment" / "log.jsonl")[:700])  # the server was away for the rest
    first = register(loop.params, **loop.arguments, output=str(tmp_path / "first.json"))
    assert first.runs["align"] == upload.run.run_id
    losses = client.get_metric_history(first.runs["align"], "loss")
    assert {metric.step: metric.timestamp for metric in losses} == {
        step: 1_700_000_000_000 + 500 * step for step in range(1500)
    }
    assert client.get_run(first.runs["align"]).info.status == "FINISHED"
    assert len(active_runs(client)) == 7

    loop.model("aligned", 3)  # another loop logs the same alignment: the live run has its parent already
    second = register(loop.params, **loop.arguments, output=str(tmp_path / "second.json"))
    assert second.runs["align"] != first.runs["align"]
    assert len(client.get_metric_history(second.runs["align"], "loss")) == 1500


def test_report_and_tables_are_kept_as_they_are(
    registration: Registration, client: MlflowClient, loop: Loop, tmp_path: Path
) -> None:
    for run, name, source in (
        (registration.run_id, "report/index.html", "report/index.html"),
        (registration.runs["evaluate"], "table.md", "evaluation/table.md"),
        (registration.runs["align"], "log.jsonl", "alignment/log.jsonl"),
        (registration.runs["align"], "run.json", "alignment/run.json"),
    ):
        copy = client.download_artifacts(run, name, str(tmp_path))
        assert Path(copy).read_bytes() == (loop.root / source).read_bytes()


def test_lineage_and_card_say_from_before_which_change_of_the_code_a_model_was_kept(
    registration: Registration, client: MlflowClient, loop: Loop
) -> None:
    told = {}
    for role, alias in (("base", "base"), ("aligned", "candidate")):
        card = client.get_model_version_by_alias("generator", alias).description
        told[role] = [lineage_of(loop.params, alias)[1].tree(alias), card]
    assert all("kept from before a change of flow_dpo" in text for text in told["aligned"])
    assert not any("kept from before" in text for text in told["base"])


def test_both_models_are_versions_with_roles_metrics_and_aliases(
    registration: Registration, client: MlflowClient
) -> None:
    for role, alias in (("base", "base"), ("aligned", "candidate")):
        version = client.get_model_version_by_alias("generator", alias)
        assert version.version == int(registration.versions[role].version)
        assert version.tags["v2a_dpo.role"] == role
        assert version.tags["loop_run"] == registration.run_id
    assert version.tags["metric.ib_score"] == "22 [21.5, 22.5]"
    assert version.tags["difference.desync_s"] == "-0.1 [-0.2, 0]"
    assert version.tags["base"] == client.get_model_version_by_alias("generator", "base").tags["v2a_dpo.fingerprint"]


def test_registering_twice_changes_nothing(
    registration: Registration, client: MlflowClient, loop: Loop, tmp_path: Path
) -> None:
    before = (tmp_path / "registration.json").read_bytes()
    again = register(loop.params, **loop.arguments, output=str(tmp_path / "registration.json"))
    assert again == registration
    assert (tmp_path / "registration.json").read_bytes() == before
    assert len(active_runs(client)) == 7
    assert len(client.search_model_versions("name = 'generator'")) == 2
    assert json.loads(before)["versions"]["aligned"]["version"] == registration.versions["aligned"].version
    assert str(registration).startswith("Registered generator (base as version 1, aligned as version 2) in sqlite:///")


@pytest.mark.slow
def test_a_new_aligned_model_of_the_same_base_is_one_more_version(
    registration: Registration, client: MlflowClient, loop: Loop, tmp_path: Path
) -> None:
    loop.model("aligned", 3)
    second = register(loop.params, **loop.arguments, output=str(tmp_path / "second.json"))
    assert second.run_id != registration.run_id
    assert second.versions["base"] == registration.versions["base"]
    assert second.versions["aligned"].version == "3"
    assert client.get_model_version_by_alias("generator", "candidate").version == 3


def test_a_new_evaluation_is_a_new_run_of_the_same_versions(
    registration: Registration,
    client: MlflowClient,
    loop: Loop,
    tmp_path: Path,
    metrics_of: Callable[..., Any],
) -> None:
    (loop.root / "evaluation" / "metrics.json").write_text(json.dumps(metrics_of(gain=3.0).to_dict()))
    second = register(loop.params, **loop.arguments, output=str(tmp_path / "second.json"))
    assert second.run_id != registration.run_id
    assert second.versions == registration.versions
    tags = client.get_model_version_by_alias("generator", "candidate").tags
    assert tags["metric.ib_score"] == "23 [22.5, 23.5]"
    assert tags["loop_run"] == second.run_id


@pytest.mark.parametrize("method", ["log_text", "log_data"])
def test_a_registration_that_was_cut_off_is_done_again_and_leaves_no_double(
    loop: Loop, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrackedRun, method, cut_off)
        with pytest.raises(KeyboardInterrupt):
            register(loop.params, **loop.arguments, output=str(tmp_path / "registration.json"))
    assert not (tmp_path / "registration.json").exists()
    for run in active_runs(client):
        client.update_run(run.info.run_id, status="RUNNING")  # as SIGKILL leaves them

    register(loop.params, **loop.arguments, output=str(tmp_path / "registration.json"))
    assert [run.info.status for run in active_runs(client)] == ["FINISHED"] * 7
    assert len(client.search_model_versions("name = 'generator'")) == 2


def test_a_loop_without_the_optional_artifacts_is_registered_too(
    loop: Loop, client: MlflowClient, tmp_path: Path
) -> None:
    needed = {name: loop.arguments[name] for name in ("base", "aligned", "evaluation", "report")}
    registered = register(loop.params, **needed, output=str(tmp_path / "registration.json"))
    assert list(registered.runs) == ["evaluate"]


@pytest.mark.slow
def test_the_guidance_curve_is_a_run_of_its_own_and_part_of_the_loops_fingerprint(
    loop: Loop, client: MlflowClient, tmp_path: Path
) -> None:
    curves = []
    for gain in (2.0, 3.0):
        guidance = tmp_path / f"guidance-{gain}"
        write_curve(str(guidance), {1.0: comparison(gain), 4.5: comparison(gain + 1)})
        output = str(tmp_path / "registration.json")
        registered = register(loop.params, **loop.arguments, guidance=str(guidance), output=output)
        assert list(registered.runs)[-2:] == ["evaluate", "guidance"]
        logged = client.download_artifacts(registered.runs["guidance"], CURVE, str(tmp_path))
        curves.append((registered.run_id, read_json(logged)))
    assert curves[0][1] == read_curve(str(tmp_path / "guidance-2.0"))
    assert [row["ib_score"] for row in curves[1][1]] == [20.0, 23.0, 20.0, 24.0]
    assert curves[0][0] != curves[1][0], "another curve is another loop"


def test_a_missing_artifact_is_told_before_anything_is_logged(loop: Loop, client: MlflowClient, tmp_path: Path) -> None:
    shutil.rmtree(loop.root / "aligned")
    with pytest.raises(UserError, match="aligned"):
        register(loop.params, **loop.arguments, output=str(tmp_path / "registration.json"))
    assert client.get_experiment_by_name("loops") is None


def test_intervals_are_named_after_their_system_and_metric(metrics_of: Callable[..., Comparison]) -> None:
    points = {point.key: point.value for point in interval_points(metrics_of())}
    assert points.items() >= {
        "clips": 64, "counts/ib_score": 64, "failed/aligned": 0, "bootstrap/resamples": 2000,
        "base/ib_score": 20.0, "base/ib_score_low": 19.0, "base/ib_score_high": 21.0,
        "aligned/difference/desync_s": -0.1, "aligned/difference/desync_s_p_better": 0.02,
        "aligned/win_rate": 0.7, "aligned/win_rate_high": 0.8, "aligned/win_rate_clips": 64,
    }.items()  # fmt: skip
    assert not any(key.startswith(("base/difference", "base/win_rate")) for key in points)


def test_only_the_aligned_model_is_tagged_with_differences(metrics_of: Callable[..., Comparison]) -> None:
    content = metrics_of()
    assert set(metric_tags(content, "base")) == {"metric.ib_score", "metric.desync_s"}
    assert set(metric_tags(content, "aligned")) - set(metric_tags(content, "base")) == {
        "metric.win_rate",
        "difference.ib_score",
        "difference.desync_s",
    }


@pytest.mark.slow
def test_a_server_keeps_runs_and_versions_and_s3_the_files(mlflow_server_uri: str, loop: Loop, tmp_path: Path) -> None:
    output = tmp_path / "registration.json"
    first = register(loop.params, **loop.arguments, output=str(output))
    assert register(loop.params, **loop.arguments, output=str(output)) == first
    assert json.loads(output.read_text())["tracking_uri"] == mlflow_server_uri

    client = MlflowClient(mlflow_server_uri)
    assert len(active_runs(client)) == 7
    assert len(client.get_metric_history(first.runs["align"], "loss")) == 1500
    mlflow.set_tracking_uri(mlflow_server_uri)
    copy = mlflow.artifacts.download_artifacts("models:/generator@candidate", dst_path=str(tmp_path / "copy"))
    weights = next(Path(copy).rglob("model.safetensors")).read_bytes()
    assert weights == (Path(loop.arguments["aligned"]) / "model.safetensors").read_bytes()
    assert client.get_run(first.run_id).info.artifact_uri.startswith("s3://")
    assert not (tmp_path / "mlruns").exists()
