"""A real MLflow server in a process of its own, which a test may kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


class MLflowServer:
    """A server with its database in `folder` and its files under `artifact_root`; it keeps its port when it starts
    again."""

    def __init__(self, folder: Path, *, database: Path, artifact_root: str, environment: dict[str, str]) -> None:
        self.folder = folder
        shutil.copy(database, folder / "mlflow.db")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._artifact_root = artifact_root
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._environment = {**inherited, **quiet, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process and returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}", "--no-serve-artifacts"]
        stores += ["--default-artifact-root", self._artifact_root, "--workers", "1"]
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *stores],
                env=self._environment,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while True:
            assert self._process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5)
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)

    def kill(self) -> None:
        """Ends the server and its workers without a farewell."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
