"""A server of forked programs: each runs as `v2a-dpo` does, in a process of its own, but finds torch loaded.

`python program_server.py SOCKET` serves until its standard input ends. A program is asked for by the script that
`install` writes: it passes on its arguments, working folder, environment, and its standard input, output and error.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import shlex
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

#: What the stages import from elsewhere.
_PACKAGES = ("torch._dynamo", "torchaudio", "pandas", "pyarrow.parquet", "scipy.signal", "pydantic", "typer", "rich")
_CLIENT = """#!/bin/sh
exec {python} -I -S -c '
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(server.recv(1)[0])
' {address} "$@"
"""


@contextmanager
def serving(address: Path) -> Iterator[None]:
    """Runs the server at a socket `address`, which exists when the block starts."""
    command = [sys.executable, __file__, str(address)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            server.stdin.close()


def install(program: Path, address: Path) -> None:
    """Writes the script `program`, which has the server run what it is called with."""
    program.unlink(missing_ok=True)
    program.write_text(_CLIENT.format(python=shlex.quote(sys.executable), address=shlex.quote(str(address))))
    program.chmod(0o755)


def _serve(address: str) -> None:
    for package in _PACKAGES:
        import_module(package)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Runs the program that is asked for in a child, answers with its exit status and ends this process."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    request = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    child = os.fork()
    if child == 0:
        connection.close()
        _run(json.loads(request), files)
    _, status = os.waitpid(child, 0)
    connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    os._exit(0)


def _run(request: tuple[list[str], str, dict[str, str]], files: list[int]) -> None:
    arguments, folder, environment = request
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.argv = ["v2a-dpo", *arguments]
    sys.path[0:1] = environment.get("PYTHONPATH", "").split(os.pathsep)
    status = 0
    try:
        runpy.run_module("v2a_dpo.cli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
