"""Pipelines on Kubeflow's local runner with S3 and a real MLflow server: the numbers of `v2a-dpo run`, whatever
happens."""

import json
import os
import uuid
from types import SimpleNamespace

import boto3
import pytest

from pipelines.full_loop import full_loop
from pipelines.parts.preference import preference_pairs
from pipelines.parts.sets import candidate_set, sources
from pipelines.parts.shards import candidate_shards
from tests.e2e.local_kubeflow import LOCAL, plant_killer, run, torch_loaded_once
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.artifacts.location import read_bytes
from v2a_dpo.params import values_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
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
        }.items():
            patch.setenv(name, value)
        bucket = f"loops-{uuid.uuid4().hex[:12]}"
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)

        def objects():
            """The key of every object, with its content's digest and when it was written."""
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            found = [item for page in pages for item in page.get("Contents", [])]
            return {item["Key"]: (item["ETag"], item["LastModified"]) for item in found}

        yield SimpleNamespace(bucket=bucket, objects=objects, client=client)


@pytest.fixture(scope="module")
def values(params):
    """The parameters as a pipeline gets them, with a worker for every shard."""
    return values_of(params) | {"orchestration": {"shards_per_task": 1}}


@pytest.fixture(scope="module")
def kubeflow_run(cluster, values, tmp_path_factory):
    """The full pipeline run once, with a worker for every shard."""
    folder = tmp_path_factory.mktemp("kubeflow")
    root = f"s3://{cluster.bucket}/loop"
    log = folder / "tasks.log"
    with pytest.MonkeyPatch.context() as patch, torch_loaded_once(log):
        patch.chdir(folder)
        try:
            run(full_loop(LOCAL), folder=folder, params=values, root=root, promotion=True)
        except RuntimeError as error:
            raise AssertionError(log.read_text(errors="replace")[-5000:]) from error
    return SimpleNamespace(layout=Layout(root), folder=folder, log=log.read_text(errors="replace"))


def read_json(uri):
    return json.loads(read_bytes(uri))


def test_the_numbers_are_those_of_one_process(kubeflow_run, loop):
    name = "metrics.json"
    assert read_json(f"{kubeflow_run.layout.evaluation}/{name}") == read_json(f"{loop.evaluation}/{name}")


def test_three_workers_shared_the_preference_set(kubeflow_run):
    assert len(Dataset.open(kubeflow_run.layout.candidates("preference")).shards) == 3
    for stage in ("prepare", "generate", "score"):
        workers = (kubeflow_run.folder / "kfp").rglob(f"for-loop-*-iteration-2/{stage}*")
        assert list(workers), f"nobody made the third shard of {stage}"


def test_pods_say_how_far_they_are_in_lines(kubeflow_run):
    assert "Generating: 1 of 1" in kubeflow_run.log
    assert "\r" not in kubeflow_run.log


def test_the_models_are_registered_and_promoted_if_the_gates_hold(kubeflow_run, params, cluster):
    record = read_json(kubeflow_run.layout.registration)
    assert record["model_name"] == params.registry.model_name
    sampled = [
        f"{stage} {split}" for stage in ("prepare", "generate", "score") for split in ("annotation", "preference")
    ]
    assert {*sampled, "annotate", "train-audioscore", "mine", "align", "evaluate", "guidance"} <= set(record["runs"])
    passed = read_json(kubeflow_run.layout.decision)["passed"]
    assert ("loop/promotion.json" in cluster.objects()) == passed


def test_the_exit_handler_says_what_came_of_the_run(kubeflow_run):
    summary = read_json(f"{kubeflow_run.layout.root}/run-summary.json")
    assert summary["state"] == "SUCCEEDED"
    assert all(summary["finished"].values())


def test_steps_that_exist_are_taken_and_not_made(kubeflow_run, cluster, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout, before = kubeflow_run.layout, cluster.objects()
    given = run(
        sources(LOCAL), folder=tmp_path, params=values, root=f"{layout.root}-2", videos=layout.world,
        generator=layout.base, scorers=layout.scorers,
    )  # fmt: skip
    assert given == {"videos": layout.world, "events": "", "generator": layout.base, "scorers": layout.scorers}
    clips = run(
        candidate_set(LOCAL), folder=tmp_path, params=values, root=layout.root, split="preference",
        start_at="candidates", videos=layout.world, generator=layout.base,
    )  # fmt: skip
    assert clips["candidates"] == layout.candidates("preference")
    found = run(
        preference_pairs(LOCAL), folder=tmp_path, params=values, root=f"{layout.root}-2", data_root=layout.root,
        start_at="pairs", annotation_clips="", annotation_candidates="", preference_clips="",
        preference_candidates="", scorers="", events="", ratings_csv="",
    )  # fmt: skip
    assert found == {"audioscore": layout.audioscore, "pairs": layout.pairs}
    assert cluster.objects() == before


def test_a_deleted_shard_is_made_again_and_nothing_else_although_its_worker_is_killed(
    kubeflow_run, cluster, values, tmp_path, monkeypatch
):
    lost = "loop/candidates/preference/part-00001.parquet"
    before = cluster.objects()
    cluster.client.delete_object(Bucket=cluster.bucket, Key=lost)
    marker = plant_killer(tmp_path, component="generate", within="CandidateEngine.generate")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    layout = kubeflow_run.layout
    run(
        candidate_shards(LOCAL), folder=tmp_path, params=values | {"orchestration": {"shards_per_task": 3}},
        root=layout.root, name="preference", conditions=layout.conditions("preference"), generator=layout.base,
    )  # fmt: skip
    assert marker.exists()
    after = cluster.objects()
    assert {key: digest for key, (digest, _) in after.items()} == {key: digest for key, (digest, _) in before.items()}
    folder = "loop/candidates/preference"
    assert {key for key in after if after[key] != before[key]} <= {
        lost, f"{folder}/_manifest.json", f"{folder}/_quarantine.parquet",
    }  # fmt: skip
