"""The operating system's errors for files as sentences with remedies."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """The cause of an error, as the end of a sentence, and the remedy."""

    what: str
    remedy: str


_AGAIN = "then run the same command again; what is finished is kept."
_RIGHTS = Cause("permission denied", "Change the permissions (`ls -l` shows them), or name another place.")
_A_FILE = Cause("there is a file where a folder is needed", "Name another place, or move the file away.")
_CAUSES = {
    errno.ENOSPC: Cause("the disk is full", f"Free some space (`df -h` shows where), {_AGAIN}"),
    errno.EDQUOT: Cause("this user's disk quota is used up", f"Delete files, {_AGAIN}"),
    errno.EFBIG: Cause("the file would exceed the largest allowed size", f"Raise the limit (`ulimit -f`), {_AGAIN}"),
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: Cause("the file system is read-only", "Name another place, or mount it for writing."),
    errno.ENOTDIR: _A_FILE,
    errno.EEXIST: _A_FILE,
    errno.EISDIR: Cause("there is a folder where a file is needed", "Name another place, or move the folder away."),
    errno.ENAMETOOLONG: Cause("the name is too long", "Name a shorter one."),
    errno.EMFILE: Cause("too many files are open", f"Raise the limit (`ulimit -n`), {_AGAIN}"),
    errno.EIO: Cause("the disk reports an error", "Look into the system's log (`dmesg`): the disk may be damaged."),
}


def causal_chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and the errors that it was raised from, nearest first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def local_cause(error: BaseException) -> Cause | None:
    """The cause of the operating system's `error`; None for an error without an entry here."""
    cause = _CAUSES.get(_number(error))
    file = getattr(error, "filename", None)
    return Cause(f"{cause.what} ({file})", cause.remedy) if cause and file else cause


def _number(error: BaseException) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    number = re.search(r"\(os error (\d+)\)", str(error))  # safetensors gives it in its message alone
    return int(number[1]) if number else 0
