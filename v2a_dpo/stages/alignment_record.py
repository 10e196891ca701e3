"""What a finished alignment leaves beside its log: what it was made from, what it made, and its summary."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from v2a_dpo.alignment.inputs import AlignmentInputs
from v2a_dpo.alignment.log import SUMMARY
from v2a_dpo.alignment.trainer import AlignmentSummary
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.location import exists, join, read_bytes, write_atomically
from v2a_dpo.config import Params


def alignment_identity(params: Params, inputs: AlignmentInputs, *, base: str) -> str:
    """A digest of all that decides the aligned model: parameters, data, and the base generator's fingerprint."""
    return fingerprint(params.align, params.seed, params.generator, base, inputs.fingerprints)


def finished_alignment(log: str, output: str, *, identity: str) -> AlignmentSummary | None:
    """The summary of the alignment of that `identity`, if it ended and its model is still what it wrote."""
    if not exists(join(log, SUMMARY)) or not exists(output):
        return None
    made: dict[str, Any] = json.loads(read_bytes(join(log, SUMMARY)))
    if (made["run"], made["output"]) != (identity, folder_fingerprint(output)):
        return None
    return AlignmentSummary(**made["summary"])


def record_alignment(summary: AlignmentSummary, log: str, output: str, *, identity: str) -> None:
    """Writes the record, which makes the alignment a finished one."""
    made = {"run": identity, "output": folder_fingerprint(output), "summary": asdict(summary)}
    write_atomically(join(log, SUMMARY), (json.dumps(made, indent=2) + "\n").encode())
