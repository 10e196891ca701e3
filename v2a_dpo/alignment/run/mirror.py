"""A run's files on S3, so that a machine that is taken away costs the steps since the last checkpoint, not the run.

The run works in a local scratch folder; a thread uploads its checkpoints while training goes on. A checkpoint is one
object, which S3 shows when it is whole; the log up to its step is uploaded before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from v2a_dpo.alignment.run.checkpoint import PREFIX, checkpoints
from v2a_dpo.alignment.run.log import LOG
from v2a_dpo.artifacts.location import join, list_names, remove, write_atomically
from v2a_dpo.artifacts.transfer import fetch_file, send_file
from v2a_dpo.errors import UserError

#: Seconds between attempts to upload; the run fails after the last.
RETRY_DELAYS_S = (1.0, 5.0, 30.0, 120.0, 300.0)


class Mirror(AbstractContextManager["Mirror"]):
    """The prefix `uri` that holds the finished files of the scratch folder `folder`."""

    def __init__(self, folder: Path, uri: str, *, retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> None:
        self._folder = folder
        self._uri = uri
        self._delays_s = retry_delays_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._under_way: Future[None] | None = None
        self._given_up = threading.Event()

    def fetch(self) -> None:
        """Downloads the newest checkpoint and its log, unless the scratch folder has that checkpoint or a newer one.

        Raises UserError at once when the prefix cannot be reached: nothing is lost before a run starts.
        """
        newest = max(self._checkpoints(), default="")
        if newest > max((path.name for path in checkpoints(self._folder)), default=""):
            self.fetch_file(LOG)  # before the checkpoint, which without its log would be of no use after a kill here
            self.fetch_file(newest)

    def fetch_file(self, name: str) -> None:
        """Downloads the file `name` if there is one."""
        if name in list_names(self._uri):
            fetch_file(join(self._uri, name), self._folder / name)

    def send(self, name: str) -> None:
        """Uploads the file `name` of the scratch folder."""
        self.wait()
        self._with_retries(lambda: send_file(self._folder / name, join(self._uri, name)))

    def send_checkpoint(self, checkpoint: Path, *, log_bytes: int) -> None:
        """Starts to upload the first `log_bytes` of the log, then `checkpoint`, and to delete older ones at the prefix.

        Until `wait` returns the checkpoint must stay in the scratch folder.
        """
        self.wait()
        self._under_way = self._thread.submit(self._with_retries, lambda: self._send_checkpoint(checkpoint, log_bytes))

    def wait(self) -> None:
        """Returns when the upload has ended; raises UserError when it failed after all retries."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def remove_checkpoints(self, *, but: str = "") -> None:
        """Deletes this run's checkpoints at the prefix, except the one named `but`."""
        for name in self._checkpoints():
            if name != but:
                remove(join(self._uri, name))

    def _checkpoints(self) -> list[str]:
        return [name for name in list_names(self._uri) if name.startswith(PREFIX)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the current upload; after an error it is not tried again."""
        if error is not None:
            self._given_up.set()
        self._thread.shutdown(wait=True)

    def _send_checkpoint(self, checkpoint: Path, log_bytes: int) -> None:
        with (self._folder / LOG).open("rb") as log:
            write_atomically(join(self._uri, LOG), log.read(log_bytes))
        send_file(checkpoint, join(self._uri, checkpoint.name))
        self.remove_checkpoints(but=checkpoint.name)

    def _with_retries(self, upload: Callable[[], None]) -> None:
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
