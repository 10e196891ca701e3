"""An append-only ledger of promotions and rollbacks that two writers cannot extend at the same time.

MLflow has no transactions and an alias is simply overwritten, so an alias alone cannot decide between two writers. A
run's parameter can: the database holds one value for a (run, name) and refuses another. Entry n of the ledger is the
parameter `promotion-n` of one run; of two processes that both saw n - 1 entries, one writes entry n, and the other
gets an error with the entry of the first. The run belongs to the registered model by a tag that is given at the
model's creation, which the database makes unique too. The alias `champion` follows the last entry.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from v2a_dpo.errors import UserError
from v2a_dpo.tracking.connection import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
LEDGER_TAG = "v2a_dpo.ledger_run"
#: The experiment that holds the ledgers of all registered models.
EXPERIMENT = "v2a-dpo promotions"
_ENTRY = "promotion-"
#: MLflow cuts longer values of parameters silently.
_LONGEST_ENTRY = 6000
LONGEST_REASON = 1000
_LONGEST_FAILURE = 300


@dataclass(frozen=True)
class Entry:
    """One change of champion: to `version` from `previous` ("" for none), with user, time (UTC) and reason.

    `reference` is the system compared with, `failures` the rules that did not hold (an `override`), `metrics` the
    differences with their intervals, `intervals` the settings of these. `claim` tells equal entries of two writers
    apart.
    """

    action: Literal["promote", "rollback"]
    version: str
    previous: str
    reason: str
    reference: str = ""
    override: bool = False
    failures: tuple[str, ...] = ()
    metrics: dict[str, str] = field(default_factory=dict)
    who: str = ""
    when: str = ""
    claim: str = ""
    intervals: str = ""

    def signed(self) -> Entry:
        """The entry with user, time and a new claim."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(self, who=current_user(), when=when, claim=uuid.uuid4().hex)

    def to_text(self) -> str:
        """The entry as JSON short enough for one parameter."""
        failures = [failure[:_LONGEST_FAILURE] for failure in self.failures]
        text = json.dumps({**asdict(self), "failures": failures}, allow_nan=False)
        if len(text) > _LONGEST_ENTRY:
            text = json.dumps({**asdict(self), "failures": failures[:5], "metrics": {}}, allow_nan=False)
        return text

    @staticmethod
    def from_text(text: str) -> Entry:
        """The entry from what `to_text` gave."""
        return TypeAdapter(Entry).validate_json(text)


class LostRaceError(UserError):
    """Another writer changed the champion before; `winner` is that change."""

    def __init__(self, winner: Entry, *, version: str) -> None:
        self.winner = winner
        reference = f"version {winner.previous}" if winner.previous else "no champion"
        super().__init__(
            f"Version {version} is not champion: {winner.who} made version {winner.version} champion "
            f"({winner.action}) at {winner.when}, while this was decided against {reference}.",
            where=CHAMPION,
            remedy=f"Run the command again: it compares with version {winner.version}.",
        )


def current_user() -> str:
    """The current user: of the tracking server, or of the system."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"user id {os.getuid()}"


def check_reason(reason: str) -> str:
    """`reason` without surrounding blanks; raises UserError when it is empty or too long."""
    text = reason.strip()
    if not 0 < len(text) <= LONGEST_REASON:
        what = f"A reason has 1 to {LONGEST_REASON} characters, this one {len(text)}."
        raise UserError(what, where="--reason", remedy="Give the reason in one sentence.")
    return text


def champions(entries: Sequence[Entry]) -> list[str]:
    """The versions that a rollback can return to, oldest first, the present champion last.

    Empty before the first promotion.
    """
    stack: list[str] = []
    for entry in entries:
        if entry.action == "promote":
            stack.append(entry.version)
        else:
            stack.pop()
    return stack


def ensure_registered_model(client: MlflowClient, name: str) -> None:
    """Creates the registered model `name` with its ledger unless it exists; of several creators one succeeds."""
    from mlflow.exceptions import MlflowException

    if _registered_model(client, name) is not None:
        return
    run_id = client.create_run(experiment_id(client, EXPERIMENT), run_name=f"promotions of {name}").info.run_id
    client.set_terminated(run_id, "FINISHED")
    try:
        client.create_registered_model(name, tags={LEDGER_TAG: run_id})
    except MlflowException as error:
        client.delete_run(run_id)
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _registered_model(client: MlflowClient, name: str) -> Any:
    """The registered model `name`, or None; by look-up, since a search does not accept quotes in a name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


class Ledger:
    """The ledger of the registered model `name`."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        model = _registered_model(client, name)
        if model is None or LEDGER_TAG not in model.tags:
            remedy = "Register a model with `v2a-dpo register`, which makes it."
            raise UserError(f"There is no registered model {name} with a ledger.", where="registry", remedy=remedy)
        self._client = client
        self._run_id: str = model.tags[LEDGER_TAG]
        self.name = name

    def entries(self) -> list[Entry]:
        """All entries, oldest first. Raises UserError when the run that holds them was deleted."""
        run = self._client.get_run(self._run_id)
        if run.info.lifecycle_stage == "deleted":
            remedy = f"Restore it: mlflow runs restore --run-id {self._run_id}"
            raise UserError("The run that holds the promotions was deleted.", where=self.name, remedy=remedy)
        params = run.data.params
        entries: list[Entry] = []
        while (key := _key(len(entries) + 1)) in params:
            entries.append(Entry.from_text(params[key]))
        return entries

    def append(self, entry: Entry, *, after: int) -> Entry:
        """Writes `entry` after the first `after` entries, sets the alias, and returns the entry as written.

        Raises LostRaceError when another entry has that place.
        """
        from mlflow.exceptions import MlflowException

        signed = entry.signed()
        try:
            self._client.log_param(self._run_id, _key(after + 1), signed.to_text())
        except MlflowException:
            written = self.entries()[after:]
            if not written:
                raise
            # The request may have succeeded although its answer was lost.
            if written[0].claim != signed.claim:
                raise LostRaceError(written[0], version=entry.version) from None
        self.settle()
        return signed

    def settle(self) -> None:
        """Sets the alias to the champion of the last entry, also while others write."""
        entries = self.entries()
        while entries:
            champion = champions(entries)[-1]
            if self.alias() != champion:
                self._client.set_registered_model_alias(self.name, CHAMPION, champion)
            seen, entries = len(entries), self.entries()
            if len(entries) == seen:
                return

    def alias(self) -> str | None:
        """The version of the alias, None without one."""
        aliases: dict[str, str] = self._client.get_registered_model(self.name).aliases
        return str(aliases[CHAMPION]) if CHAMPION in aliases else None


def _key(number: int) -> str:
    return f"{_ENTRY}{number:05d}"
