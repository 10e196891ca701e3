"""A training job's life: made, followed, cancelled, evicted, resumed; and an API server that is not always there."""

import pytest

from v2a_dpo.cluster.train_job.api import Cluster
from v2a_dpo.cluster.train_job.follow import run_train_job
from v2a_dpo.cluster.train_job.manifest import TrainJob
from v2a_dpo.cluster.train_job.settings import ClusterSettings
from v2a_dpo.errors import UserError

SETTINGS = ClusterSettings(image="registry/image:1.0", num_nodes=2, queue="q")
JOB = TrainJob("v2a-dpo-align-0123456789ab", ["align", "--log=s3://b/log"], SETTINGS)
COMPLETE = ("Complete", "JobsCompleted", "jobset completed successfully")
FAILED = ("Failed", "JobsFailed", "jobset failed due to one or more job failures")
PREEMPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}


def run(job=JOB, *, delays=(0.01,) * 5, **options):
    said = []
    cluster = Cluster("here", retry_delays_s=delays, report=said.append)
    try:
        run_train_job(cluster, job, poll_s=0.01, **options)
    finally:
        run.said = said
    return said


def test_a_job_is_made_followed_with_every_line_once_and_cleared_away(server):
    def starts(job):
        server.add_pod(job, "node-0")
        server.add_pod(job, "node-1", phase="Pending")
        server.write_log("node-0", "Measuring the reference: 10 of 10")

    server.script = [
        lambda job: None,
        starts,
        lambda job: server.write_log("node-0", "Aligning: 1 of 2", "Aligning: 2 of 2"),
        lambda job: server.write_log("node-1", "here, too"),
        lambda job: server.end(job, *COMPLETE),
    ]
    said = run()
    assert said == [
        f"Created the training job {JOB.name} in the namespace here",
        "The training job is running",
        "node-0: Measuring the reference: 10 of 10",
        "node-0: Aligning: 1 of 2",
        "node-0: Aligning: 2 of 2",
        "node-1: here, too",
        "The training job is complete (JobsCompleted: jobset completed successfully)",
    ]
    assert server.deleted == [JOB.name]
    assert server.created[0]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"


def test_a_finished_job_stays_if_wanted(server):
    server.script = [lambda job: server.end(job, *COMPLETE)]
    run(keep=True)
    assert list(server.jobs) == [JOB.name]


def test_a_failed_job_is_told_with_the_last_lines_of_the_pod_that_failed_and_stays(server):
    def fails(job):
        ended = [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]
        server.add_pod(job, "node-0", phase="Failed", containerStatuses=ended)
        server.add_pod(job, "node-1")
        server.write_log("node-0", *(f"line {number}" for number in range(30)), "Error: no memory")
        server.write_log("node-1", "waiting for node-0")
        server.end(job, *FAILED)

    server.script = [fails]
    with pytest.raises(UserError, match=r"failed .JobsFailed") as caught:
        run()
    lines = caught.value.what.splitlines()
    assert lines[1:] == [
        *(f"node-0: line {number}" for number in range(11, 30)),
        "node-0: Error: no memory",
        "node-0: ended with exit code 137 (OOMKilled)",
    ]
    assert server.deleted == []


def test_what_keeps_a_pod_from_starting_is_told_once(server):
    no_room = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have a GPU"}
    ]
    image = [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]
    server.script = [
        lambda job: server.add_pod(job, "node-0", phase="Pending", conditions=no_room),
        lambda job: None,
        lambda job: server.add_pod(job, "node-0", phase="Pending", containerStatuses=image),
        lambda job: None,
        lambda job: server.end(job, *COMPLETE),
    ]
    waits = [line for line in run() if "waits" in line]
    assert waits == ["node-0 waits: Unschedulable: 0/3 nodes have a GPU", "node-0 waits: ImagePullBackOff: not found"]


def test_a_job_that_failed_because_its_pods_were_taken_away_is_made_again(server):
    def taken(job):
        server.add_pod(job, "first", phase="Failed", conditions=[PREEMPTED])
        server.end(job, *FAILED)

    server.script = [taken, lambda job: None, lambda job: server.end(job, *COMPLETE)]
    said = run()
    assert len(server.created) == 2
    assert any("evicted (PreemptionByScheduler)" in line for line in said)
    assert server.deleted == [JOB.name, JOB.name]


def test_a_job_that_waits_for_its_quota_goes_on_when_it_gets_it(server):
    def resumes(job):
        job["status"]["conditions"] = []
        server.add_pod(job, "second")
        server.write_log("second", "Aligning: 9 of 9")

    server.script = [
        lambda job: server.add_pod(job, "first"),
        lambda job: (server.pods.clear(), server.end(job, "Suspended", "Suspended", "TrainJob is suspended")),
        resumes,
        lambda job: server.end(job, *COMPLETE),
    ]
    states = [line.removeprefix("The training job is ").split(" ")[0] for line in run() if line.startswith("The train")]
    assert states == ["running", "suspended", "running", "complete"]
    assert len(server.created) == 1


def test_a_second_caller_follows_the_job_of_the_first(server):
    server.jobs[JOB.name] = JOB.manifest()
    server.script = [lambda job: None, lambda job: server.end(job, *COMPLETE)]
    said = run()
    assert said[0] == f"The training job {JOB.name} is running already: following it"
    assert server.created == []


def test_a_job_that_ended_before_gives_way_to_a_new_one(server):
    old = JOB.manifest()
    server.end(old, *FAILED)
    server.jobs[JOB.name] = old
    server.script = [lambda job: None, lambda job: server.end(server.jobs[JOB.name], *COMPLETE)]
    run()
    assert len(server.created) == 1
    assert server.deleted == [JOB.name, JOB.name]


def test_a_job_deleted_by_somebody_else_is_told(server):
    server.script = [lambda job: None, lambda job: server.jobs.clear()]
    with pytest.raises(UserError, match=r"was deleted while it ran.*continues from the last checkpoint"):
        run()


def test_an_api_server_that_is_away_for_a_while_costs_nothing(server):
    server.trouble = [503, None, 429]
    server.script = [lambda job: server.trouble.extend([None, 500]), lambda job: server.end(job, *COMPLETE)]
    said = run()
    assert sum("trying again" in line for line in said) == 5
    assert len(server.created) == 1
    assert "complete" in said[-1]


def test_an_api_server_that_stays_away_ends_the_call_and_not_the_job(server):
    server.script = [lambda job: server.trouble.extend([503] * 10)]
    with pytest.raises(UserError, match=r"does not answer .*run this again to follow it"):
        run(delays=(0.01, 0.01))
    assert list(server.jobs) == [JOB.name]


@pytest.mark.parametrize(
    ("what", "verb", "resource"),
    [
        ("create trainjobs", "create", "trainjobs"),
        ("get trainjobs", "get", "trainjobs"),
        ("list pods", "list", "pods"),
        ("get pods/log", "get", "pods/log"),
        ("delete trainjobs", "delete", "trainjobs"),
    ],
)
def test_a_missing_right_is_named(server, what, verb, resource):
    server.forbidden = {what}
    server.script = [lambda job: server.add_pod(job, "node-0"), lambda job: server.end(job, *COMPLETE)]
    with pytest.raises(UserError, match=f"does not allow this account to {what}: User") as caught:
        run()
    assert f"the verb {verb!r} on {resource!r}" in caught.value.remedy


def test_a_cluster_without_trainer_is_told(server, monkeypatch):
    monkeypatch.setattr("tests.cluster.train_job.api_server.JOBS", "/nowhere")
    with pytest.raises(UserError, match=r"This cluster has no TrainJobs.*Install Kubeflow Trainer"):
        run()


def test_no_way_to_a_cluster_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no access to Kubernetes"):
        Cluster("here")


def test_a_manifest_that_the_schema_refuses_is_told_with_its_field(server):
    wrong = TrainJob("v2a-dpo-align-0", ["align"], SETTINGS.model_copy(update={"num_nodes": "two"}))
    with pytest.raises(UserError, match=r"refuses to create trainjobs: \$.spec.trainer.numNodes: 'two' is not"):
        run(wrong)


def test_processes_get_a_gpu_each_or_none():
    def resources(processes, gpus):
        return ClusterSettings(image="image:1", processes_per_node=processes, gpus_per_node=gpus).resources()

    assert resources(8, 8)["limits"]["nvidia.com/gpu"] == 8
    assert "nvidia.com/gpu" not in str(resources(2, 0))
    with pytest.raises(ValueError, match="cannot share"):
        resources(2, 1)
