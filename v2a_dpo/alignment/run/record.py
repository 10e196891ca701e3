"""The record of an alignment: what determines its weights, and its summary.

`run.json` is written when a run starts, `summary.json` when it is finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from v2a_dpo.alignment.run.log import RUN, SUMMARY, Record
from v2a_dpo.artifacts.code import Code
from v2a_dpo.artifacts.fingerprint import fingerprint, folder_fingerprint
from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.location import join
from v2a_dpo.config import AlignConfig

#: Settings of measuring and storing, which do not change the weights.
_WITHOUT_EFFECT = {"checkpoint_every", "validate_every"}


@dataclass(frozen=True)
class Identity:
    """Everything that determines the weights: settings by name, fingerprints of data and base generator by role, and
    definitions in the code (name -> digest)."""

    settings: Mapping[str, Any]
    data: Mapping[str, str]
    code: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A 32-digit hexadecimal digest of everything."""
        return fingerprint(asdict(self))

    def differences(self, now: Identity) -> list[str]:
        """The settings and data that differ in `now`, in words; for the code see `changed_code`."""
        settings = [
            f"{name} {self.settings.get(name)} -> {now.settings.get(name)}"
            for name in sorted(self.settings.keys() | now.settings.keys())
            if self.settings.get(name) != now.settings.get(name)
        ]
        roles = sorted(self.data.keys() | now.data.keys())
        return settings + [f"the {role}" for role in roles if self.data.get(role) != now.data.get(role)]

    def changed_code(self, now: Identity) -> list[str]:
        """The names of the definitions that differ in `now`."""
        return Code(now.code).changed(self.code)


def settings_of(config: AlignConfig, *, seed: int, precision: str) -> dict[str, Any]:
    """The settings that change weights, by their names in the parameters."""
    own = config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    return {"seed": seed, "generator.precision": precision} | {f"align.{name}": own[name] for name in sorted(own)}


@dataclass(frozen=True)
class AlignmentSummary:
    """The result of a run: pairs, steps by phase, validation metrics before and after, and alarms by kind.

    The metrics are None without validation pairs. `kept_changes` are the definitions in the code that changed since the
    run began, and despite which it was kept.
    """

    training_pairs: int
    validation_pairs: int
    steps_by_phase: dict[str, int]
    before: dict[str, float] | None
    after: dict[str, float] | None
    alarms: dict[str, int]
    kept_changes: list[str] = field(default_factory=list)

    @staticmethod
    def of_log(
        log: Sequence[Record], *, steps_by_phase: dict[str, int], training_pairs: int, validation_pairs: int
    ) -> AlignmentSummary:
        """The summary of a run with all its records."""
        measured = [
            {name: value for name, value in record.items() if name.startswith("validation_")}
            for record in log
            if "validation_implicit_accuracy" in record
        ]
        alarms = Counter(alarm for record in log for alarm in record["alarms"])
        return AlignmentSummary(
            training_pairs,
            validation_pairs,
            steps_by_phase,
            before=measured[0] if measured else None,
            after=measured[-1] if measured else None,
            alarms=dict(sorted(alarms.items())),
        )

    def __str__(self) -> str:
        phases = ", ".join(f"{steps} {name}" for name, steps in self.steps_by_phase.items())
        text = f"Aligned on {self.training_pairs} pairs in {phases} steps"
        if self.before is not None and self.after is not None:
            before, after = (metrics["validation_implicit_accuracy"] for metrics in (self.before, self.after))
            text += f"; implicit accuracy on {self.validation_pairs} validation pairs {before:.3f} -> {after:.3f}"
        text += "".join(f"; ALARM: {name} ({count} times)" for name, count in self.alarms.items())
        return text + (f"; {_kept(self.kept_changes)}" if self.kept_changes else "")


@dataclass(frozen=True)
class Run:
    """An alignment: its identity, the changes of code despite which it was kept, and its summary when finished."""

    identity: Identity
    kept_changes: list[str] = field(default_factory=list)
    summary: AlignmentSummary | None = None

    @property
    def kept(self) -> str:
        """The changes of code in words; "" when there are none."""
        return _kept(self.kept_changes) if self.kept_changes else ""


def _kept(changes: Sequence[str]) -> str:
    return f"kept from before a change of {', '.join(changes)}"


def write_run(run: Run, log: str) -> None:
    """Writes the run without its summary into its folder `log`."""
    write_json(join(log, RUN), {"identity": asdict(run.identity), "kept_changes": run.kept_changes})


def read_run(log: str) -> Run:
    """The run in the folder `log`, without its summary."""
    content = read_json(join(log, RUN))
    return Run(Identity(**content["identity"]), content["kept_changes"])


def finish_run(summary: AlignmentSummary, log: str, output: str) -> AlignmentSummary:
    """Writes the summary, which marks the run as finished, and returns it with the run's `kept_changes`."""
    write_json(join(log, SUMMARY), {"output": folder_fingerprint(output), "summary": asdict(summary)})
    return replace(summary, kept_changes=read_run(log).kept_changes)
