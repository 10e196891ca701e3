"""The start of an alignment in folders that may hold an earlier one.

A start with the identity of the earlier run resumes it. With another identity it is refused with the differences, or
moves the earlier run aside on request: nothing is deleted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from v2a_dpo.alignment.run.checkpoint import PREFIX
from v2a_dpo.alignment.run.log import LOG, RUN, SUMMARY, TARGET
from v2a_dpo.alignment.run.record import AlignmentSummary, Identity, Run, read_run, write_run
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.json_files import read_json
from v2a_dpo.artifacts.location import join, list_names, move, tree_names
from v2a_dpo.errors import UserError

#: Inside the log folder: the runs that were moved aside.
EARLIER = "earlier"
_log = logging.getLogger(__name__)


def find_run(
    log: str, output: str, *, identity: Identity, keep_code: bool = False, start_anew: bool = False
) -> Run | None:
    """The run of that `identity` in the folders `log` and `output`; None when one may be begun with `begin_run`.

    With `keep_code` a run that differs in code alone is accepted, and its record lists the changes. Raises UserError
    for another run, or for a model without a run, unless `start_anew` allows to move it aside.
    """
    existing = _Existing(log, output)
    if existing.run is None and existing.is_empty:
        return None
    differences, changed = existing.differences(identity), existing.changed_code(identity)
    if existing.run is not None and not differences and (keep_code or not changed):
        return existing.kept(existing.run, changed)
    if existing.is_empty:
        return None
    reasons = differences + ([f"code: {', '.join(changed)}"] if changed and not keep_code else [])
    what = f"There is {existing}, and it differs from the requested one: {'; '.join(reasons)}."
    if start_anew:
        _log.warning("%s: %s It is moved aside.", log, what)
        return None
    keep = "keep it with --keep-artifacts, or " if changed and not differences else ""
    raise UserError(
        what,
        where=f"{log}, {output}",
        remedy=f"To go on with it, give it its own settings and data{', ' + keep if keep else '; '}"
        f"begin anew with --start-anew, which moves it to {join(log, EARLIER)}; or name another --log and --output.",
    )


def begin_run(log: str, output: str, *, identity: Identity) -> Run:
    """Starts a new run in the folders `log` and `output`; an earlier one is moved aside."""
    existing = _Existing(log, output)
    if existing.names or existing.has_model:
        existing.move_aside()
    run = Run(identity)
    write_run(run, log)
    return run


@dataclass(frozen=True)
class _Existing:
    """The content of the folders `log` and `output` before a start."""

    log: str
    output: str

    @cached_property
    def names(self) -> list[str]:
        """The run's own files and checkpoints in the log folder, sorted, without caches that any run may use."""
        own = (LOG, RUN, SUMMARY, TARGET)
        return sorted(name for name in list_names(self.log) if name in own or name.startswith(PREFIX))

    @cached_property
    def has_model(self) -> bool:
        """Whether there is anything in the output folder."""
        return bool(tree_names(self.output))

    @cached_property
    def run(self) -> Run | None:
        """The recorded run, without its summary; None when there is no record."""
        return read_run(self.log) if RUN in self.names else None

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The content of the summary file, when the run is finished."""
        if SUMMARY not in self.names:
            return None
        content: dict[str, Any] = read_json(join(self.log, SUMMARY))
        return content

    @property
    def is_empty(self) -> bool:
        """Whether there is no work that could be lost."""
        return not self.has_model and not set(self.names) - {RUN, TARGET}

    def __str__(self) -> str:
        if self.result is not None:
            steps = sum(self.result["summary"]["steps_by_phase"].values())
            return f"a finished alignment of {steps} steps"
        saved = [int(Path(name).stem.removeprefix(PREFIX)) for name in self.names if name.startswith(PREFIX)]
        if set(self.names) - {RUN, TARGET}:
            return f"an unfinished alignment, with {max(saved, default=0)} steps in its checkpoint"
        return "a model"

    def differences(self, identity: Identity) -> list[str]:
        """The differences from the run of that `identity` as phrases, apart from the code."""
        if self.run is None:
            return ["there is no record of what it was made from"]
        reasons = self.run.identity.differences(identity)
        if self.result is not None and not self.has_model:
            reasons.append(f"its model is not in {self.output} any more")
        elif self.result is not None and self.result["output"] != folder_fingerprint(self.output):
            reasons.append(f"the model in {self.output} is not the one it wrote")
        return reasons

    def changed_code(self, identity: Identity) -> list[str]:
        """The names of the definitions that differ in `identity`."""
        return [] if self.run is None else self.run.identity.changed_code(identity)

    def kept(self, run: Run, changed: list[str]) -> Run:
        """The `run`, kept despite the `changed` definitions, which its record now lists; with its summary if any."""
        if not set(changed) <= set(run.kept_changes):
            run = replace(run, kept_changes=sorted({*run.kept_changes, *changed}))
            write_run(run, self.log)
        if self.result is None:
            return run
        return replace(run, summary=AlignmentSummary(**self.result["summary"] | {"kept_changes": run.kept_changes}))

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
        _log.warning("The earlier run is now in %s%s.", place, f", its model in {model}" if self.has_model else "")

    def _free_name(self) -> str:
        """The name of the earlier run: its identity, with a number when an equal one was moved aside before."""
        stem = self.run.identity.digest[:12] if self.run else "unknown"
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        return next(name for name in names if not self._is_taken(name))

    def _is_taken(self, name: str) -> bool:
        place = join(self.log, EARLIER, name)
        if self.run is None:
            return bool(tree_names(place)) or bool(tree_names(f"{self.output.rstrip('/')}-{name}"))
        return RUN in list_names(place)
