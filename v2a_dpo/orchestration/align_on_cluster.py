"""Stage: the aligned generator, by the stage `align` on GPUs of the cluster: one node or several, through Kubeflow Trainer."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import yaml

from v2a_dpo.alignment.flow_dpo import AlignmentSummary
from v2a_dpo.alignment.inputs import AlignmentInputs
from v2a_dpo.alignment.run.record import Run, alignment_identity, find_run
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.location import is_remote, join, write_atomically
from v2a_dpo.config import Params, values_of
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent

#: In the log folder: the parameters that the nodes read.
PARAMS = "params.yaml"


def align_on_cluster(
    params: Params,
    *,
    pairs: str,
    candidates: list[str],
    conditions: list[str],
    generator: str,
    output: str,
    log: str,
    image: str,
    num_nodes: int = 1,
    processes_per_node: int = 1,
    gpus_per_node: int = 1,
    cpu: str = "8",
    memory: str = "64Gi",
    node_selector: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    namespace: str = "v2a-dpo",
    runtime: str = "v2a-dpo-torch",
    queue: str | None = None,
    keep: bool = False,
    start_anew: bool = False,
    poll_s: float = 5.0,
    progress: Progress = silent,
    say: Callable[[str], None] = print,
) -> AlignmentSummary:
    """Runs the stage `align` as a TrainJob and returns its summary; all folders must be remote.

    A run in `log` that differs is refused before there is a job; with `start_anew` the job moves it aside.

    The job's name comes from what it makes, so that a second call follows the job of the first. SIGTERM deletes the job; its
    checkpoints under `log` stay. `cpu` and `memory` are for each node, `node_selector` narrows the choice of nodes,
    `environment` adds variables (such as NCCL_SOCKET_IFNAME), `queue` is a LocalQueue of Kueue, and with `keep` a finished
    job stays in the cluster. Its pods' lines go to `say`.
    """
    _check(
        params, [pairs, *candidates, *conditions, generator, output, log], num_nodes, processes_per_node, gpus_per_node
    )
    inputs = AlignmentInputs.open(pairs, candidates, conditions)
    identity = alignment_identity(params, inputs, generator=generator, base=folder_fingerprint(generator))

    def run_there(*, start_anew: bool) -> Run | None:
        return find_run(log, output, identity=identity, keep_code=params.keep_artifacts, start_anew=start_anew)

    found = run_there(start_anew=start_anew)
    if found is not None and found.summary is not None:
        return found.summary
    from v2a_dpo.cluster.train_job.api import Cluster
    from v2a_dpo.cluster.train_job.follow import run_train_job
    from v2a_dpo.cluster.train_job.manifest import NodeResources, TrainJob

    write_atomically(join(log, PARAMS), yaml.safe_dump(values_of(params)).encode())
    lists = {"candidates": candidates, "conditions": conditions}
    single = {"params": join(log, PARAMS), "pairs": pairs, "generator": generator, "output": output, "log": log}
    options = [f"--{name}={value}" for name, value in single.items()]
    options += [f"--{name}={value}" for name, values in lists.items() for value in values]
    job = TrainJob(
        name=f"v2a-dpo-align-{fingerprint(identity.digest, output, log)[:12]}",
        image=image,
        arguments=["align", "--no-live", *(["--start-anew"] if start_anew else []), *options],
        num_nodes=num_nodes,
        resources=NodeResources(processes_per_node, gpus_per_node, cpu, memory),
        runtime=runtime,
        queue=queue,
        node_selector=node_selector or {},
        environment=environment or {},
    )
    with _sigterm_exits():
        run_train_job(Cluster(namespace, say=say), job, keep=keep, poll_s=poll_s, say=say)
    found = run_there(start_anew=False)
    if found is None or found.summary is None:
        raise UserError(
            "The training job ended, but its record is missing or not that of a finished run.",
            where=log,
            remedy="Check that the image holds the same version as this program, then run this again.",
        )
    progress("Aligning", params.align.steps, params.align.steps)
    return found.summary


def _check(params: Params, folders: list[str], num_nodes: int, processes_per_node: int, gpus_per_node: int) -> None:
    """Raises UserError for what every node would stumble over."""
    for folder in folders:
        if not is_remote(folder):
            raise UserError(
                "The nodes of the cluster cannot see a local folder.", where=folder, remedy="Name an s3:// prefix."
            )
    if gpus_per_node not in (0, processes_per_node):
        raise UserError(
            f"{processes_per_node} processes cannot share {gpus_per_node} GPUs of a node.",
            where="gpus_per_node",
            remedy="Give as many GPUs as processes, or 0 to train on CPUs.",
        )
    processes = num_nodes * processes_per_node
    if params.align.batch_size % processes:
        raise UserError(
            f"A batch of {params.align.batch_size} pairs cannot be shared equally by {processes} processes.",
            where="align.batch_size",
            remedy="Choose num_nodes and processes_per_node so that their product divides it.",
        )


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Turns SIGTERM, by which a cluster ends a pod, into an exit that cleans up; only while the block runs."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
