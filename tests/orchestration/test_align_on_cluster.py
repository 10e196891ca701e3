"""Alignment as a training job: the job's command really runs here, and what it makes is what `align` makes."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from tests.alignment.launch import PARAMS, assert_same_up_to_rounding, in_a_process
from tests.cluster.train_job.api_server import ApiServer
from v2a_dpo.artifacts.location import is_remote, read_bytes, tree_names, write_atomically
from v2a_dpo.errors import UserError
from v2a_dpo.orchestration.align_on_cluster import align_on_cluster
from v2a_dpo.stages.align import align

ON_CPU = {"image": "registry/v2a-dpo-generation:1.0", "namespace": "here", "gpus_per_node": 0}


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ApiServer() as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running


@pytest.fixture
def remote(problem, bucket):
    """The alignment's folders on S3."""
    for folder in ("pairs", "candidates-0", "candidates-1", "conditions-0", "conditions-1", "generator"):
        for file in (problem.root / folder).iterdir():
            write_atomically(f"{bucket}/{folder}/{file.name}", file.read_bytes())

    def moved(value):
        return [moved(item) for item in value] if isinstance(value, list) else value.replace(str(problem.root), bucket)

    return {name: moved(value) for name, value in problem.arguments().items()}


def _stage(environment, arguments):
    """The stage as the component's pod runs it."""
    os.environ.update(environment)
    align_on_cluster(PARAMS, **arguments, cluster=ON_CPU, poll_s=0.1)


def wait_for(condition):
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "it did not happen within five minutes"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_of_two_processes_makes_what_align_makes_alone(server, remote, problem, tmp_path):
    server.run_commands = {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    said = []
    summary = align_on_cluster(
        PARAMS, **remote, cluster={**ON_CPU, "processes_per_node": 2}, poll_s=0.1, report=said.append
    )
    (job,) = server.created
    assert job["spec"]["runtimeRef"]["name"] == "v2a-dpo-torch"
    assert any("Aligning: 14 of 14" in line for line in said)
    assert (summary.training_pairs, summary.validation_pairs) == (20, 4)

    local = problem.arguments("beside the job")
    align(PARAMS, **local)
    (tmp_path / "log.jsonl").write_bytes(read_bytes(f"{remote['log']}/log.jsonl"))
    assert_same_up_to_rounding(Path(local["log"]) / "log.jsonl", tmp_path / "log.jsonl")
    expected, made = (load(read_bytes(f"{run['output']}/model.safetensors")) for run in (local, remote))
    assert made.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=1e-5)

    said.clear()
    assert align_on_cluster(PARAMS, **remote, cluster=ON_CPU, poll_s=0.1, report=said.append) == summary
    assert said == [], "a finished alignment is not done again"


@pytest.mark.slow
def test_sigterm_deletes_the_job_and_a_kill_leaves_it_to_the_next_try(server, remote, s3_environment):
    environment = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "KUBECONFIG"))}
    first = in_a_process(_stage, environment, remote)
    wait_for(lambda: "list pods" in server.requests)
    first.kill()
    first.join()
    assert len(server.jobs) == 1

    server.requests.clear()
    second = in_a_process(_stage, environment, remote)
    wait_for(lambda: "list pods" in server.requests)
    assert len(server.created) == 1, "the second caller follows the job of the first"
    second.terminate()
    second.join()
    assert second.exitcode == 128 + signal.SIGTERM
    assert server.deleted == [server.created[0]["metadata"]["name"]]


def test_what_the_nodes_get_is_decided_by_the_caller(server, remote):
    server.script = [lambda job: server.end(job, "Failed", "Refused", "enough seen")]
    with pytest.raises(UserError, match="enough seen"):
        align_on_cluster(
            PARAMS,
            **remote,
            cluster={
                "image": "image:1",
                "namespace": "here",
                "num_nodes": 2.0,  # a number as workflow engines hand it on
                "processes_per_node": 2,
                "gpus_per_node": 2,
                "cpu": "16",
                "memory": "128Gi",
                "node_selector": {"nvidia.com/gpu.product": "H100"},
                "queue": "v2a-dpo",
                "environment": {"NCCL_SOCKET_IFNAME": "eth0"},
            },
        )
    (job,) = server.created
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 2)
    assert trainer["command"] == ["torchrun", "--module", "--", "v2a_dpo.cli"]
    assert trainer["resourcesPerNode"] == {
        "requests": {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": 2},
        "limits": {"memory": "128Gi", "nvidia.com/gpu": 2},
    }
    assert trainer["env"] == [{"name": "NCCL_SOCKET_IFNAME", "value": "eth0"}]
    assert f"--params={remote['log']}/params.yaml" in trainer["args"]
    assert "params.yaml" in tree_names(remote["log"])
    patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    assert patch["template"]["spec"]["template"]["spec"] == {"nodeSelector": {"nvidia.com/gpu.product": "H100"}}


def test_what_every_node_would_stumble_over_is_told_before_a_job_is_made(remote, problem):
    local = problem.arguments()
    assert not is_remote(local["log"])
    with pytest.raises(UserError, match="cannot read a local folder"):
        align_on_cluster(PARAMS, **{**remote, "log": local["log"]}, cluster=ON_CPU)
    for wrong, message in (
        ({"num_nodes": 3}, "4 pairs cannot be shared equally by 3 processes"),
        ({"gpus_per_node": 1, "processes_per_node": 2}, "2 processes cannot share 1 GPUs"),
        ({"nodes": 2}, "nodes Extra inputs are not permitted"),
        ({"num_nodes": "two"}, "num_nodes Input should be a valid integer"),
    ):
        with pytest.raises(UserError, match=message):
            align_on_cluster(PARAMS, **remote, cluster={**ON_CPU, **wrong})
