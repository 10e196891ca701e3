"""A run's files on S3, so that a machine that is taken away costs the steps since the last checkpoint, not the run.

The run works in a local scratch folder; what is complete there is uploaded by a thread while training goes on. A
checkpoint counts from the moment its `state.json` is there, which is uploaded last, after the log up to that step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from v2a_dpo.alignment.run.checkpoint import PREFIX, STATE, checkpoint_names
from v2a_dpo.alignment.run.log import LOG
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.location import (
    join,
    list_names,
    remove,
    tree_names,
    write_atomically,
)
from v2a_dpo.artifacts.transfer import fetch_file, send_file
from v2a_dpo.errors import UserError

#: Seconds before an upload is tried again: a service that restarts costs nothing, one that stays away ends the run.
RETRY_DELAYS_S = (1.0, 5.0, 30.0, 120.0, 300.0)


class Mirror(AbstractContextManager["Mirror"]):
    """The prefix `uri` that holds what is complete of the scratch folder `folder`."""

    def __init__(self, folder: Path, uri: str, *, retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> None:
        self._folder = folder
        self._uri = uri
        self._delays_s = retry_delays_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._under_way: Future[None] | None = None
        self._given_up = threading.Event()

    def fetch(self) -> None:
        """Brings the newest complete checkpoint and its log, unless the scratch folder is as far itself.

        Raises UserError at once when the prefix cannot be reached: nothing is lost before a run starts.
        """
        complete = [name.removesuffix(f"/{STATE}") for name in self._checkpoint_files() if name.endswith(f"/{STATE}")]
        if not complete or max(complete) <= max(checkpoint_names(self._folder), default=""):
            return
        with new_folder(self._folder / max(complete)) as partial:
            for name in list_names(join(self._uri, max(complete))):
                fetch_file(join(self._uri, max(complete), name), partial / name)
        self.fetch_file(LOG)

    def fetch_file(self, name: str) -> bool:
        """Brings the file `name` and says whether it was there."""
        if name not in list_names(self._uri):
            return False
        fetch_file(join(self._uri, name), self._folder / name)
        return True

    def send(self, name: str) -> None:
        """Uploads the file `name` of the scratch folder."""
        self.wait()
        self._patiently(lambda: send_file(self._folder / name, join(self._uri, name)))

    def send_checkpoint(self, checkpoint: Path, *, log_bytes: int) -> None:
        """Begins to upload `checkpoint` and the first `log_bytes` of the log; older checkpoints go when all is there.

        Until `wait` returns the checkpoint must stay in the scratch folder.
        """
        self.wait()
        self._under_way = self._thread.submit(self._patiently, lambda: self._send_checkpoint(checkpoint, log_bytes))

    def wait(self) -> None:
        """Returns when nothing is being uploaded any more; raises UserError when the last upload failed for good."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def remove_checkpoints(self, *, but: str = "") -> None:
        """Deletes the checkpoints at the prefix; what makes one complete goes first."""
        names = [name for name in self._checkpoint_files() if name.partition("/")[0] != but]
        for name in sorted(names, key=lambda name: (not name.endswith(STATE), name)):
            remove(join(self._uri, name))

    def _checkpoint_files(self) -> list[str]:
        """The files of this run's checkpoints at the prefix; runs that were moved aside there have their own."""
        return [name for name in tree_names(self._uri) if name.startswith(PREFIX)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets the upload under way end; after an error it is not tried again."""
        if error is not None:
            self._given_up.set()
        self._thread.shutdown(wait=True)

    def _send_checkpoint(self, checkpoint: Path, log_bytes: int) -> None:
        with (self._folder / LOG).open("rb") as log:
            write_atomically(join(self._uri, LOG), log.read(log_bytes))
        for file in sorted(checkpoint.iterdir(), key=lambda file: (file.name == STATE, file.name)):
            send_file(file, join(self._uri, checkpoint.name, file.name))
        self.remove_checkpoints(but=checkpoint.name)

    def _patiently(self, upload: Callable[[], None]) -> None:
        for delay_s in self._delays_s:
            try:
                return upload()
            except UserError:
                if self._given_up.wait(delay_s):
                    raise
        try:
            upload()
        except UserError as error:
            kept = f"The scratch folder {self._folder} keeps the work. {error.remedy} Then run the same command again."
            raise UserError(error.what, where=error.where, remedy=kept) from error
