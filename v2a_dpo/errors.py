"""The one error for users: what went wrong, where, and the remedy."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can correct: bad input, a wrong setting, an unreachable service.

    The command line prints it as one paragraph and exits with status 2; library callers catch it like any exception.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(" ".join(part for part in (what, f"Where: {where}." if where else "", remedy) if part))
