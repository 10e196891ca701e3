"""One training job from its creation to its end.

The job's name is a fingerprint of its inputs, so a caller that restarts finds its own job and follows it. The job
continues from its checkpoints, so it may be deleted and created again at any moment.
"""

from __future__ import annotations

import time
from typing import Any

from v2a_dpo.cluster.train_job.api import AlreadyExists, Cluster, NotFound
from v2a_dpo.cluster.train_job.manifest import TrainJob
from v2a_dpo.cluster.train_job.pods import PodWatch
from v2a_dpo.errors import UserError

COMPLETE, FAILED, SUSPENDED, RUNNING = "Complete", "Failed", "Suspended", "Running"

#: How often a job whose pods were evicted is created again.
_RESUMES = 20


def run_train_job(cluster: Cluster, job: TrainJob, *, keep: bool = False, poll_s: float = 5.0) -> None:
    """Runs `job` to its end and reports its pods' lines; a running job of that name is followed instead.

    The job is polled every `poll_s` seconds; unlike a watch, this survives every break of the connection. A job that
    fails because its pods were evicted (pre-emption, a lost node) is created again and continues from its last
    checkpoint. A finished job is deleted unless `keep`; a failed one stays until the next try. On an exception from
    outside, such as a cancellation, the job is deleted. Raises UserError with the pods' last lines when it fails.
    """
    _start(cluster, job, poll_s=poll_s)
    try:
        _follow(cluster, job, poll_s=poll_s)
    except UserError:
        raise
    except BaseException:
        cluster.report(f"Cancelled: deleting the training job {job.name}")
        cluster.delete_job(job.name)
        raise
    if not keep:
        cluster.delete_job(job.name)


def state(job: dict[str, Any]) -> tuple[str, str]:
    """The state of a TrainJob and its reason, which is empty while the job runs."""
    conditions = {
        item["type"]: item for item in job.get("status", {}).get("conditions", []) if item["status"] == "True"
    }
    for name in (COMPLETE, FAILED, SUSPENDED):
        if name in conditions:
            return name, f"{conditions[name]['reason']}: {conditions[name]['message']}"
    return RUNNING, ""


def _start(cluster: Cluster, job: TrainJob, *, poll_s: float) -> None:
    """Creates the job unless one of its name is running; one that has ended is replaced."""
    while True:
        try:
            cluster.create_job(job.manifest())
        except AlreadyExists:
            pass
        else:
            cluster.report(f"Created the training job {job.name} in the namespace {cluster.namespace}")
            return
        try:
            existing = cluster.job(job.name)
        except NotFound:
            continue
        ended = state(existing)[0] in (COMPLETE, FAILED)
        if not ended and "deletionTimestamp" not in existing["metadata"]:
            cluster.report(f"The training job {job.name} is running already: following it")
            return
        _delete_and_wait(cluster, job.name, poll_s=poll_s)


def _delete_and_wait(cluster: Cluster, name: str, *, poll_s: float) -> None:
    cluster.delete_job(name)
    while True:
        try:
            cluster.job(name)
        except NotFound:
            return
        time.sleep(poll_s)


def _follow(cluster: Cluster, job: TrainJob, *, poll_s: float) -> None:
    pods = PodWatch(cluster, job.name)
    last, resumes = "", 0
    while True:
        try:
            now, reason = state(cluster.job(job.name))
        except NotFound:
            raise UserError(
                "The training job was deleted while it ran.",
                where=f"{job.name} in the namespace {cluster.namespace}",
                remedy="Run this again: it continues from the last checkpoint.",
            ) from None
        pods.look()
        if now != last:
            cluster.report(f"The training job is {now.lower()}{f' ({reason})' if reason else ''}")
            last = now
        if now == COMPLETE:
            return
        if now == FAILED:
            if not pods.evicted or resumes == _RESUMES:
                raise UserError(
                    f"The training job failed ({reason}).\n{pods.last_lines()}".rstrip(),
                    where=f"{job.name} in the namespace {cluster.namespace}",
                    remedy="Remove the cause and run this again: it continues from the last checkpoint.",
                )
            resumes += 1
            cluster.report(f"Its pods were evicted ({pods.evicted}): the new job continues from its checkpoint")
            _delete_and_wait(cluster, job.name, poll_s=poll_s)
            _start(cluster, job, poll_s=poll_s)
            pods, last = PodWatch(cluster, job.name), ""
            continue
        time.sleep(poll_s)
