"""The history of a registered model: which version was champion when and why."""

from __future__ import annotations

from dataclasses import dataclass

from v2a_dpo.config import Params
from v2a_dpo.registry.ledger import CHAMPION, Entry, Ledger, champions
from v2a_dpo.registry.versions import open_registry
from v2a_dpo.tracking.failures import failures_reported


@dataclass(frozen=True)
class History:
    """All changes of champion of a registered model, oldest first, and where the alias points now ("" for nowhere)."""

    model_name: str
    entries: tuple[Entry, ...]
    alias: str

    @property
    def champion(self) -> str:
        """The present champion by the ledger, "" before the first promotion."""
        return champions(self.entries)[-1] if self.entries else ""

    def __str__(self) -> str:
        if not self.entries:
            return f"{self.model_name} has had no champion."
        lines = [f"{self.model_name}: version {self.champion} is champion."]
        if self.alias != self.champion:
            target = f"version {self.alias}" if self.alias else "nothing"
            remedy = f"`v2a-dpo promote {self.champion}` corrects it."
            lines.append(f"The alias {CHAMPION} points at {target}, unlike the ledger: {remedy}")
        for number, entry in enumerate(self.entries, start=1):
            lines += _lines(number, entry)
        return "\n".join(lines)


def history(params: Params) -> History:
    """Who was champion when and why."""
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri):
        ledger = Ledger(registry.tracking.client, registry.name)
        return History(registry.name, tuple(ledger.entries()), ledger.alias() or "")


def _lines(number: int, entry: Entry) -> list[str]:
    done = "rolled back to" if entry.action == "rollback" else "OVERRIDE, promoted" if entry.override else "promoted"
    instead = f" instead of version {entry.previous}" if entry.previous else ""
    lines = [f"{number}. {entry.when} {entry.who} {done} version {entry.version}{instead}: {entry.reason}"]
    lines += [f"   did not hold: {failure}" for failure in entry.failures]
    if entry.intervals:
        lines.append(f"   judged by {entry.intervals}")
    against = f"champion version {entry.previous}" if entry.previous else entry.reference
    lines += [f"   against {against}: {key} {change}" for key, change in entry.metrics.items()]
    return lines
