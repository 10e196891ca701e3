"""The full pipeline on Kubeflow's local runner: S3, a real MLflow server, a killed task, and the numbers of `v2a-dpo run`."""

import json
import uuid
from types import SimpleNamespace

import boto3
import pytest

from pipelines.parts import system
from pipelines.v2a_dpo import full_loop
from tests.e2e.local_kubeflow import LOCAL, plant_killer, run, start_runner
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import read_bytes
from v2a_dpo.config import values_of
from v2a_dpo.stages.layout import Layout

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(scope="session")
def cluster(s3_endpoint, mlflow_server):
    """What a cluster gives its pods: S3, MLflow, and a bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": s3_endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_TRACKING_URI": mlflow_server.uri,
            "MLFLOW_S3_ENDPOINT_URL": s3_endpoint,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        }.items():
            patch.setenv(name, value)
        bucket = f"loops-{uuid.uuid4().hex[:12]}"
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)

        def objects(prefix: str) -> dict[str, tuple[str, str]]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            found = [item for page in pages for item in page.get("Contents", [])]
            return {item["Key"]: (item["ETag"], str(item["LastModified"])) for item in found}

        yield SimpleNamespace(bucket=bucket, objects=objects, client=client)


@pytest.fixture(scope="session")
def kubeflow_run(cluster, params, tmp_path_factory):
    """The full pipeline run once, three workers for the preference set, one of them killed while it samples."""
    folder = tmp_path_factory.mktemp("kubeflow")
    start_runner(folder)
    root = f"s3://{cluster.bucket}/loop"
    with pytest.MonkeyPatch.context() as patch:
        marker = plant_killer(folder, component="generate", within="CandidateEngine.generate")
        patch.setenv("PYTHONPATH", str(folder))
        patch.chdir(folder)
        run(full_loop(LOCAL), params=values_of(params), root=root, shards_per_task=1)
    return SimpleNamespace(at=Layout(root), folder=folder, marker=marker)


def read_json(uri):
    return json.loads(read_bytes(uri))


def test_the_numbers_are_those_of_one_process_although_a_worker_was_killed(kubeflow_run, loop):
    assert kubeflow_run.marker.exists()
    name = "metrics.json"
    assert read_json(f"{kubeflow_run.at.evaluation}/{name}") == read_json(f"{loop.evaluation}/{name}")


def test_three_workers_shared_the_preference_set(kubeflow_run):
    assert len(Dataset.open(kubeflow_run.at.candidates("preference")).shards) == 3
    chunks = {path.parent.name for path in (kubeflow_run.folder / "kfp").rglob("generate*/executor_output.json")}
    assert chunks


def test_the_models_are_registered_with_the_decision(kubeflow_run, params):
    record = read_json(kubeflow_run.at.registration)
    assert record["model_name"] == params.register_.model_name
    assert read_json(kubeflow_run.at.decision)["reference"] == "base"


def test_the_exit_handler_says_what_came_of_the_run(kubeflow_run):
    summary = read_json(f"{kubeflow_run.at.root}/run-summary.json")
    assert summary["state"] == "SUCCEEDED"
    assert all(summary["finished"].values())


def test_a_shard_that_was_deleted_is_made_again_and_nothing_else(kubeflow_run, cluster, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start_runner(tmp_path)
    before = cluster.objects("loop/")
    lost = "loop/candidates/test-base/part-00001.parquet"
    cluster.client.delete_object(Bucket=cluster.bucket, Key=lost)
    at = kubeflow_run.at
    run(
        system(LOCAL), params=values_of(params), root=at.root, name="test-base",
        clips=at.clips("test"), conditions=at.conditions("test"), generator=at.base, scorers=at.scorers,
        shards_per_task=2,
    )  # fmt: skip
    after = cluster.objects("loop/")
    manifest = "loop/candidates/test-base/_manifest.json"
    quarantine = "loop/candidates/test-base/_quarantine.parquet"
    assert {key for key in after if after[key] != before[key]} <= {lost, manifest, quarantine}
    assert {key: tag for key, (tag, _) in after.items()} == {key: tag for key, (tag, _) in before.items()}
