"""Untrained tiny generators, a real clip, and the models that are packaged of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from v2a_dpo.artifacts.checksums import record_checksums
from v2a_dpo.config import Params
from v2a_dpo.params import params_from
from v2a_dpo.serving.packaging import package_model
from v2a_dpo.serving.settings import ServingSettings
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build
from v2a_dpo.tiny.media import write_clip_mp4
from v2a_dpo.tiny.sound import render_audio
from v2a_dpo.tiny.world import make_split

PARAMS = {
    "profile": "tiny",
    "generator": {"family": "tiny", "variant": "tiny", "device": "cpu"},
    "prepare": {"duration_s": 2.0},
    "generate": {"steps": 2, "guidance_scale": 2.0},
    "serve": {"max_duration_s": 4.0, "max_videos": 2, "max_upload_mib": 0.25, "max_megapixels": 0.5},
}


@dataclass(frozen=True)
class Served:
    """Model folders `base` and `aligned`, a clip of 2 s, the parameters and their file."""

    base: Path
    aligned: Path
    clip: Path
    params: Params
    params_file: Path

    @property
    def settings(self) -> ServingSettings:
        """What a model is packaged with."""
        return ServingSettings.of(self.params)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp("served")
    clip_events = make_split(0, "test", 8)
    audio = torch.stack([torch.from_numpy(render_audio(events)) for events in clip_events])
    for name, seed in (("base", 0), ("aligned", 1)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = build(TinyEncoders(), PatchCodec.fit(audio), seed=seed)
            with torch.no_grad():
                # An untrained network predicts no velocity at all; the video must reach the sound.
                for weight in model.network.parameters():
                    weight.add_(0.05 * torch.randn(weight.shape))
        model.save(root / name)
        record_checksums(root / name)
    write_clip_mp4(root / "clip.mp4", clip_events[0])
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    return Served(root / "base", root / "aligned", root / "clip.mp4", params_from(PARAMS), root / "params.yaml")


@pytest.fixture(scope="session")
def packaged(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaged") / "model"
    package_model(served.aligned, folder, served.settings)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, cwd: Path, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running process of this environment's Python, stopped at the end."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "1", **environment}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, *command], cwd=cwd, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield running
        finally:
            running.terminate()
            running.wait(timeout=30)


def wait_for(url: str, running: subprocess.Popen[bytes], log: Path, *, seconds: float = 500.0) -> None:
    """Returns when `url` answers; fails with the log when the process ends instead."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert running.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"{url} does not answer: {log.read_text()}")
