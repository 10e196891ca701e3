"""The one error a user is meant to read: what went wrong, where, and what to do about it."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend: bad input, a wrong setting, an unreachable service.

    The command line prints it as one paragraph and exits with status 2; library callers catch it like any exception.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(" ".join(part for part in (what, f"Where: {where}." if where else "", remedy) if part))
