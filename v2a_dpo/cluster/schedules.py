"""Recurring runs: by a cron expression or at an interval."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from v2a_dpo.errors import UserError

_CRON_FIELD = re.compile(r"^[\d*/,\-?A-Za-z]+$")
_INTERVAL = re.compile(r"^(\d+)([mhd])$")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Schedule:
    """A name, and a cron expression of six fields (seconds first, UTC) or an interval in seconds."""

    name: str
    cron: str | None = None
    interval_s: int | None = None
    schedule_id: str = ""
    state: str = ""

    @classmethod
    def by(cls, name: str, *, cron: str | None, every: str | None) -> Schedule:
        """The schedule `name` with either a cron expression of five or six fields, or an interval such as `24h`.

        Raises UserError for both, for none, and for text that is neither.
        """
        if (cron is None) == (every is None):
            remedy = 'Give --cron "0 3 * * MON" or --every 24h.'
            raise UserError("Give either --cron or --every, not both.", where="--cron, --every", remedy=remedy)
        return cls(name, cron=_six_fields(cron)) if cron is not None else cls(name, interval_s=_seconds(every or ""))

    @classmethod
    def of(cls, recurring: Any) -> Schedule:
        """The schedule that the server calls `recurring` (a V2beta1RecurringRun)."""
        trigger = recurring.trigger
        cron = trigger.cron_schedule.cron if trigger and trigger.cron_schedule else None
        interval = trigger.periodic_schedule.interval_second if trigger and trigger.periodic_schedule else None
        return cls(
            recurring.display_name,
            cron=cron,
            interval_s=None if interval is None else int(interval),
            schedule_id=recurring.recurring_run_id,
            state=str(recurring.status or ""),
        )

    @property
    def recurrence(self) -> str:
        """The cron expression or the interval, for people."""
        return f"cron {self.cron} (UTC)" if self.cron else f"every {timedelta(seconds=self.interval_s or 0)}"


def _six_fields(cron: str) -> str:
    fields = cron.split()
    if len(fields) not in (5, 6) or not all(map(_CRON_FIELD.match, fields)):
        remedy = "Write minute, hour, day, month, weekday, such as 0 3 * * MON; seconds may come first."
        raise UserError(f"Invalid cron expression {cron!r}.", where="--cron", remedy=remedy)
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def _seconds(every: str) -> int:
    match = _INTERVAL.match(every)
    if match is None or int(match[1]) == 0:
        raise UserError(f"Invalid interval {every!r}.", where="--every", remedy="Write 30m, 24h or 7d.")
    return int(timedelta(**{_UNITS[match[2]]: int(match[1])}).total_seconds())
