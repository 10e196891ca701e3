"""The stage `align` on one node of the cluster or several, through Kubeflow Trainer."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import yaml

from v2a_dpo.alignment.flow_dpo import flow_dpo_identity
from v2a_dpo.alignment.pairs_data import AlignmentInputs
from v2a_dpo.alignment.run.record import AlignmentSummary, Run
from v2a_dpo.alignment.run.start import find_run
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.location import is_remote, join, write_atomically
from v2a_dpo.cluster.train_job.settings import ClusterSettings
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.params import values_of
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
    cluster: Mapping[str, Any],
    start_anew: bool = False,
    poll_s: float = 5.0,
    progress: Progress = silent,
    report: Callable[[str], None] = print,
) -> AlignmentSummary:
    """Runs the stage `align` as a TrainJob and returns its summary; all folders must be remote.

    `cluster` holds the fields of `ClusterSettings`: the image, the nodes and their resources. A run in `log` that
    differs is refused before there is a job; with `start_anew` the job moves it aside. The job's name is a fingerprint
    of its inputs, so a second call follows the job of the first. SIGTERM deletes the job; its checkpoints under `log`
    stay. The lines of its pods go to `report`. Raises UserError for a local folder, wrong settings, a batch that the
    processes cannot share equally, and a failed job.
    """
    settings = ClusterSettings.of(cluster)
    _check(params, settings, [pairs, *candidates, *conditions, generator, output, log])
    inputs = AlignmentInputs.open(pairs, candidates, conditions)
    identity = flow_dpo_identity(params, inputs, generator=generator, base=folder_fingerprint(generator))

    def existing_run(*, start_anew: bool) -> Run | None:
        return find_run(log, output, identity=identity, keep_code=params.keep_artifacts, start_anew=start_anew)

    run = existing_run(start_anew=start_anew)
    if run is not None and run.summary is not None:
        return run.summary
    from v2a_dpo.cluster.train_job.api import Cluster
    from v2a_dpo.cluster.train_job.follow import run_train_job
    from v2a_dpo.cluster.train_job.manifest import TrainJob

    write_atomically(join(log, PARAMS), yaml.safe_dump(values_of(params)).encode())
    lists = {"candidates": candidates, "conditions": conditions}
    single = {"params": join(log, PARAMS), "pairs": pairs, "generator": generator, "output": output, "log": log}
    options = [f"--{name}={value}" for name, value in single.items()]
    options += [f"--{name}={value}" for name, values in lists.items() for value in values]
    job = TrainJob(
        name=f"v2a-dpo-align-{fingerprint(identity.digest, output, log)[:12]}",
        arguments=["align", "--no-live", *(["--start-anew"] if start_anew else []), *options],
        settings=settings,
    )
    with _sigterm_exits():
        run_train_job(Cluster(settings.namespace, report=report), job, keep=settings.keep, poll_s=poll_s)
    run = existing_run(start_anew=False)
    if run is None or run.summary is None:
        raise UserError(
            "The training job ended, but its record is missing or not that of a finished run.",
            where=log,
            remedy="Check that the image holds the same version as this program, then run this again.",
        )
    progress("Aligning", params.align.steps, params.align.steps)
    return run.summary


def _check(params: Params, settings: ClusterSettings, folders: list[str]) -> None:
    """Raises UserError for what would fail on every node."""
    for folder in folders:
        if not is_remote(folder):
            raise UserError(
                "The nodes of the cluster cannot read a local folder.", where=folder, remedy="Name an s3:// prefix."
            )
    if params.align.batch_size % settings.processes:
        raise UserError(
            f"A batch of {params.align.batch_size} pairs cannot be shared equally by {settings.processes} processes.",
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
