"""A script in place of the program `v2a-dpo`, for shells: what it is called with runs in a forked process."""

from __future__ import annotations

import json
import shlex
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import forked

#: Asks this process for the program, waits, and ends with its exit code; the program writes to the script's own output.
_SCRIPT = """#!/bin/sh
exec {python} -I -S -c '
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps([os.getpid(), sys.argv[2:], os.getcwd(), dict(os.environ)])
    server.sendall(request.encode() + bytes([10]))
    sys.exit(server.recv(1)[0])
' {socket} "$@"
"""


class _Call(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        process_id, arguments, folder, environment = json.loads(self.rfile.readline())
        output, errors = (Path(f"/proc/{process_id}/fd/{number}") for number in (1, 2))
        process = forked.start(
            "v2a_dpo.cli", arguments, output=output, errors=errors, folder=Path(folder), environment=environment
        )
        process.join()
        self.wfile.write(bytes([(process.exitcode or 0) % 256]))


@contextmanager
def forking_script(script: Path) -> Iterator[None]:
    """Writes `script`, which works while the block runs."""
    with TemporaryDirectory() as folder:  # the path of a socket must be short
        socket = f"{folder}/socket"
        script.unlink(missing_ok=True)
        script.write_text(_SCRIPT.format(python=shlex.quote(sys.executable), socket=shlex.quote(socket)))
        script.chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(socket, _Call) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                server.shutdown()
