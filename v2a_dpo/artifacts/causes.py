"""Why the operating system cannot read or write a file, in words, and what to do about it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """What went wrong, as the end of a sentence, and the remedy."""

    what: str
    remedy: str


_AGAIN = "then run the same command again; what is finished is kept."
_RIGHTS = Cause(
    "this user has no right to do that", "Give the user the right (`ls -l` shows it), or name another place."
)
_A_FILE = Cause("a file stands where a folder is needed", "Name another place, or move the file away.")
_CAUSES = {
    errno.ENOSPC: Cause("the disk is full", f"Free some space (`df -h` shows where), {_AGAIN}"),
    errno.EDQUOT: Cause("this user's share of the disk is used up", f"Delete what nobody needs, {_AGAIN}"),
    errno.EFBIG: Cause("the file would be larger than is allowed here", f"Raise the limit (`ulimit -f`), {_AGAIN}"),
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: Cause("the file system is read-only", "Name another place, or mount it for writing."),
    errno.ENOTDIR: _A_FILE,
    errno.EEXIST: _A_FILE,
    errno.EISDIR: Cause("a folder stands where a file is needed", "Name another place, or move the folder away."),
    errno.ENAMETOOLONG: Cause("the name is too long", "Name a shorter one."),
    errno.EMFILE: Cause("too many files are open", f"Raise the limit (`ulimit -n`), {_AGAIN}"),
    errno.EIO: Cause("the disk reports an error", "Look into the system's log (`dmesg`): the disk may be damaged."),
}


def causal_chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, nearest first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def local_cause(error: BaseException) -> Cause | None:
    """The cause of what the operating system raised; None for what has no words here."""
    found = _CAUSES.get(_number(error))
    file = getattr(error, "filename", None)
    return Cause(f"{found.what} ({file})", found.remedy) if found and file else found


def _number(error: BaseException) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    in_words = re.search(r"\(os error (\d+)\)", str(error))  # all that safetensors tells
    return int(in_words[1]) if in_words else 0
