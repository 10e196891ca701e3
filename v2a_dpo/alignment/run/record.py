"""The record of an alignment in its log folder: what it was started from, what it made, and how it gives way to
another.

`run.json` is written when a run starts, `summary.json` when it is finished. A start that finds the run of its own
identity goes on with it. One that finds another run is refused with what differs, or moves it aside on request: nothing
is deleted.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from v2a_dpo.alignment.flow_dpo import AlignmentSummary, align_by_flow_dpo
from v2a_dpo.alignment.inputs import AlignmentInputs
from v2a_dpo.alignment.pairs_data import gather_pairs
from v2a_dpo.alignment.run.checkpoint import PREFIX
from v2a_dpo.alignment.run.identity import Identity, RunRecord, settings_of
from v2a_dpo.alignment.run.log import LOG, RUN, SUMMARY, TARGET
from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.location import join, list_names, read_bytes, tree_names, write_atomically
from v2a_dpo.artifacts.moving import move
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.models.catalog import velocity_code

#: Inside the log folder: the runs that gave way to others.
EARLIER = "earlier"
_log = logging.getLogger(__name__)


def alignment_identity(params: Params, inputs: AlignmentInputs, *, generator: str, base: str) -> Identity:
    """All that decides on the aligned model; `base` is the fingerprint of the folder `generator`."""
    return Identity(
        settings_of(params.align, seed=params.seed, precision=params.generator.precision),
        {**inputs.fingerprints, "base generator": base},
        code_of(align_by_flow_dpo, gather_pairs, *velocity_code(generator)).functions,
    )


@dataclass(frozen=True)
class Run:
    """An alignment: what it was started from, and its summary when it is finished."""

    identity: Identity
    summary: AlignmentSummary | None = None

    def to_text(self) -> str:
        """The run as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_text(text: str) -> Run:
        """The run from what `to_text` gave."""
        content = json.loads(text)
        summary = content["summary"]
        return Run(Identity(**content["identity"]), AlignmentSummary(**summary) if summary else None)


def find_run(
    log: str, output: str, *, identity: Identity, keep_code: bool = False, start_anew: bool = False
) -> Run | None:
    """The run of that `identity` in the folders `log` and `output`; None when one may be begun with `begin_run`.

    With `keep_code` a run that differs in code alone counts as well, and its record says so. Raises UserError when
    there is another run, or a model that no run there made, unless `start_anew` lets it give way.
    """
    there = _Found(log, output)
    if there.record is None and there.is_nothing:
        return None
    differences, changed = there.differences(identity), there.changed_code(identity)
    if there.record is not None and not differences and (keep_code or not changed):
        return Run(there.record.identity, _kept(there, there.record, changed))
    if there.is_nothing:
        return None
    reasons = differences + ([f"code: {', '.join(changed)}"] if changed and not keep_code else [])
    what = f"There is {there}, and it differs from what is to be made now: {'; '.join(reasons)}."
    if start_anew:
        _log.warning("%s: %s It is moved aside.", log, what)
        return None
    keep = "keep it with --keep-artifacts, or " if changed and not differences else ""
    raise UserError(
        what,
        where=f"{log}, {output}",
        remedy=f"To go on with it, give it what it was started with{', ' + keep if keep else '; '}"
        f"begin anew with --start-anew, which moves it to {join(log, EARLIER)}; or name another --log and --output.",
    )


def begin_run(log: str, output: str, *, identity: Identity) -> Run:
    """A new run in the folders `log` and `output`; what an earlier one left there is moved aside."""
    there = _Found(log, output)
    if there.names or there.has_model:
        there.move_aside()
    write_atomically(join(log, RUN), RunRecord(identity, []).to_text().encode())
    return Run(identity)


def finish_run(summary: AlignmentSummary, log: str, output: str) -> AlignmentSummary:
    """Writes the summary, which makes the run a finished one, and returns it with the changes of code it was kept in
    spite of."""
    made = {"output": folder_fingerprint(output), "summary": asdict(summary)}
    write_atomically(join(log, SUMMARY), (json.dumps(made, indent=2, allow_nan=False) + "\n").encode())
    return replace(summary, kept_changes=read_record(log).kept_changes)


def read_record(log: str) -> RunRecord:
    """What the run in the folder `log` was started from."""
    return RunRecord.from_text(read_bytes(join(log, RUN)).decode())


def _kept(there: _Found, record: RunRecord, changed: list[str]) -> AlignmentSummary | None:
    """The summary of a run that is kept as it is, if it is finished; its record lists what `changed`."""
    if not set(changed) <= set(record.kept_changes):
        record = RunRecord(record.identity, sorted({*record.kept_changes, *changed}))
        write_atomically(join(there.log, RUN), record.to_text().encode())
    if there.made is None:
        return None
    return replace(AlignmentSummary(**there.made["summary"]), kept_changes=record.kept_changes)


@dataclass(frozen=True)
class _Found:
    """What lies in the folders `log` and `output` before a start."""

    log: str
    output: str

    @cached_property
    def names(self) -> list[str]:
        """A run's own files and checkpoints in the log folder, sorted; caches that any run may use are not among
        them."""
        names = {name.partition("/")[0] for name in tree_names(self.log)}
        return sorted(name for name in names if name in (LOG, RUN, SUMMARY, TARGET) or name.startswith(PREFIX))

    @cached_property
    def has_model(self) -> bool:
        """Whether there is anything in the output folder."""
        return bool(tree_names(self.output))

    @cached_property
    def record(self) -> RunRecord | None:
        """What the run was started from; None when it does not say."""
        return read_record(self.log) if RUN in self.names else None

    @cached_property
    def made(self) -> dict[str, Any] | None:
        """The content of the summary, when the run is finished."""
        if SUMMARY not in self.names:
            return None
        content: dict[str, Any] = json.loads(read_bytes(join(self.log, SUMMARY)))
        return content

    @property
    def is_nothing(self) -> bool:
        """Whether nothing here took any work."""
        return not self.has_model and not set(self.names) - {RUN, TARGET}

    def __str__(self) -> str:
        if self.made is not None:
            steps = sum(self.made["summary"]["steps_by_phase"].values())
            return f"a finished alignment of {steps} steps"
        kept = [int(name.removeprefix(PREFIX)) for name in self.names if name.startswith(PREFIX)]
        if set(self.names) - {RUN, TARGET}:
            return f"an unfinished alignment, with {max(kept, default=0)} steps in its checkpoint"
        return "a model"

    def differences(self, identity: Identity) -> list[str]:
        """In words, why this is not the run of that `identity`, the code left out."""
        if self.record is None:
            return ["nothing says what it was made from"]
        found = self.record.identity.differences(identity)
        if self.made is not None and not self.has_model:
            found.append(f"its model is not in {self.output} any more")
        elif self.made is not None and self.made["output"] != folder_fingerprint(self.output):
            found.append(f"the model in {self.output} is not the one it wrote")
        return found

    def changed_code(self, identity: Identity) -> list[str]:
        """The names of the definitions that are otherwise in `identity`."""
        return [] if self.record is None else self.record.identity.changed_code(identity)

    def move_aside(self) -> None:
        """Moves the run into a folder of its own under `EARLIER`, and its model beside the output folder.

        The record goes last, so that a start after a kill finds the rest and moves it to the same place.
        """
        name = self._free_name()
        place = join(self.log, EARLIER, name)
        model = f"{self.output.rstrip('/')}-{name}"
        if self.has_model:
            move(self.output, model)
        for item in sorted(self.names, key=lambda item: item == RUN):
            move(join(self.log, item), join(place, item))
        _log.warning("What was there is in %s now%s.", place, f", its model in {model}" if self.has_model else "")

    def _free_name(self) -> str:
        """The name of the earlier run: its identity, with a number when an equal one was moved aside before."""
        stem = self.record.identity.digest[:12] if self.record else "unknown"
        number = 1
        name = stem
        while self._is_taken(name):
            number += 1
            name = f"{stem}-{number}"
        return name

    def _is_taken(self, name: str) -> bool:
        place = join(self.log, EARLIER, name)
        if self.record is None:
            return bool(tree_names(place)) or bool(tree_names(f"{self.output.rstrip('/')}-{name}"))
        return RUN in list_names(place)
