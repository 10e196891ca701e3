"""Stage: the aligned generator from preference pairs, by curriculum Flow-DPO (paper section 3.3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from v2a_dpo.alignment.checkpoint import remove_checkpoints
from v2a_dpo.alignment.log import Record
from v2a_dpo.alignment.pairs_data import gather_pairs, remove_caches
from v2a_dpo.alignment.trainer import AlignmentSummary, align_by_flow_dpo
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.folder import local_copy, new_folder
from v2a_dpo.artifacts.location import exists, is_remote, write_atomically
from v2a_dpo.artifacts.schema import PAIRS
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.progress import Progress, silent

#: In the log folder: the summary of a finished run, with what it was made from and what it made.
SUMMARY = "summary.json"


def align(
    params: Params,
    *,
    pairs: str,
    candidates: list[str],
    conditions: list[str],
    generator: str,
    output: str,
    log: str,
    progress: Progress = silent,
    on_record: Callable[[Record], None] = lambda record: None,
) -> AlignmentSummary:
    """Aligns the `generator` to the `pairs` and writes it to `output`; a stopped run goes on where its checkpoint is.

    `candidates` and `conditions` are the folders that hold the pairs' clips. `log` is a local folder for the training
    log, the summary, and while it runs the checkpoints and the gathered pairs. A finished run is not done again.
    """
    if is_remote(log):
        raise UserError(
            "The log folder must be local: the running checkpoint and memory-mapped data live there.",
            where=log,
            remedy="Give a local or mounted folder.",
        )
    folder = Path(log)
    folder.mkdir(parents=True, exist_ok=True)
    pair_set = Dataset.open(pairs, PAIRS)
    candidate_sets = [Dataset.open(item, "candidates") for item in candidates]
    condition_sets = [Dataset.open(item, "conditions") for item in conditions]
    base = folder_fingerprint(generator)
    data = [item.fingerprint for item in (pair_set, *candidate_sets, *condition_sets)]
    run = fingerprint(params.align, params.seed, params.generator, base, data)
    finished = _finished(folder / SUMMARY, run, output)
    if finished is not None:
        return finished

    with local_copy(generator) as files:
        model = load_generator(files, device=params.generator.device)
    data_of_pairs = gather_pairs(pair_set, candidate_sets, condition_sets, folder=folder, progress=progress)
    summary = align_by_flow_dpo(
        model,
        data_of_pairs,
        params.align,
        seed=params.seed,
        precision=params.generator.precision,
        base=base,
        folder=folder,
        progress=progress,
        on_record=on_record,
    )
    with new_folder(output) as target:
        model.save(target)
    made = {"run": run, "output": folder_fingerprint(output), "summary": asdict(summary)}
    write_atomically(folder / SUMMARY, (json.dumps(made, indent=2) + "\n").encode())
    remove_checkpoints(folder)
    remove_caches(folder)
    return summary


def _finished(path: Path, run: str, output: str) -> AlignmentSummary | None:
    """The summary of the same run, if it ended and its model is still what it wrote."""
    if not path.exists() or not exists(output):
        return None
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (made["run"], made["output"]) != (run, folder_fingerprint(output)):
        return None
    return AlignmentSummary(**made["summary"])
