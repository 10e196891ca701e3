"""What decides on an alignment's weights, as a record that tells in words how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from v2a_dpo.artifacts.code import Code
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.config import AlignConfig

#: Settings that say when something is measured or stored, and leave the weights as they are.
_WITHOUT_EFFECT = {"checkpoint_every", "validate_every"}


@dataclass(frozen=True)
class Identity:
    """Settings by name, fingerprints of data and base generator by role, and definitions in the code (name ->
    digest)."""

    settings: Mapping[str, Any]
    data: Mapping[str, str]
    code: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A 32-digit hexadecimal digest of everything."""
        return fingerprint(asdict(self))

    def differences(self, now: Identity) -> list[str]:
        """In words, what of settings and data is otherwise in `now`; the code is left to `changed_code`."""
        settings = [
            f"{name} {self.settings.get(name)} -> {now.settings.get(name)}"
            for name in sorted(self.settings.keys() | now.settings.keys())
            if self.settings.get(name) != now.settings.get(name)
        ]
        roles = sorted(self.data.keys() | now.data.keys())
        return settings + [f"the {role}" for role in roles if self.data.get(role) != now.data.get(role)]

    def changed_code(self, now: Identity) -> list[str]:
        """The names of the definitions that are otherwise in `now`."""
        return Code(now.code).changed(self.code)


def settings_of(config: AlignConfig, *, seed: int, precision: str) -> dict[str, Any]:
    """The settings that change weights, by the names they have in the parameters."""
    own = config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    return {"seed": seed, "generator.precision": precision} | {f"align.{name}": own[name] for name in sorted(own)}


@dataclass(frozen=True)
class RunRecord:
    """What a run was started from, and the definitions whose changes since then it was kept in spite of."""

    identity: Identity
    kept_changes: list[str]

    @property
    def kept(self) -> str:
        """Those definitions in words; "" when there are none."""
        return f"kept from before a change of {', '.join(self.kept_changes)}" if self.kept_changes else ""

    def to_text(self) -> str:
        """The record as JSON."""
        return (
            json.dumps({**asdict(self.identity), "kept_changes": self.kept_changes}, indent=2, allow_nan=False) + "\n"
        )

    @staticmethod
    def from_text(text: str) -> RunRecord:
        """The record from what `to_text` gave."""
        content = json.loads(text)
        kept_changes = content.pop("kept_changes")
        return RunRecord(Identity(**content), kept_changes)
