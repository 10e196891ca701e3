"""`docker/build`: one command for both engines, with our names and nobody's registry written down."""

from __future__ import annotations

import os
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from components.definition import GENERATION, ORCHESTRATION, SCORING, Images

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def build(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`docker/build`, with the programs of `path` before the others."""
    search = os.pathsep.join([str(path), os.environ["PATH"]] if path else [os.environ["PATH"]])
    clean = {key: value for key, value in os.environ.items() if not key.startswith("V2A_DPO_")}
    return subprocess.run(
        [str(ROOT / "docker" / "build"), *arguments],
        env={**clean, "PATH": search, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def engines(tmp_path):
    """A docker client whose engine does not answer, and a buildah that writes down what it is told."""
    for name, program in (("docker", "exit 1"), ("buildah", f'echo "$@" >> "{tmp_path}/told"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_all_images_get_the_names_that_pipelines_use():
    printed = build("--engine", "docker", "--print").stdout
    images = Images(registry="ghcr.io/v2a-dpo", tag=VERSION)
    for name in (GENERATION, SCORING, ORCHESTRATION):
        assert f"--tag {images.reference(name)} " in printed
    assert printed.count("docker build ") == 3


def test_registry_and_tag_come_from_the_environment_or_the_options():
    environment = {"V2A_DPO_IMAGE_REGISTRY": "registry.example.org/a", "V2A_DPO_IMAGE_TAG": "1.2"}
    printed = build("--engine", "docker", "--print", "scoring", **environment).stdout
    assert "--tag registry.example.org/a/v2a-dpo-scoring:1.2 " in printed
    options = ["--registry", "registry.example.org/b/", "--tag", "3.4"]
    printed = build("--engine", "docker", "--print", *options, "scoring", **environment).stdout
    assert "--tag registry.example.org/b/v2a-dpo-scoring:3.4 " in printed


def test_without_a_docker_engine_buildah_builds(engines, tmp_path):
    certificates = tmp_path / "certificates.pem"
    certificates.touch()
    options = ["--base-image", "localhost/python:3.11", "--secret", f"certificates={certificates}"]
    done = build(*options, "orchestration", "--", "--network", "host", path=engines)
    assert done.returncode == 0, done.stderr
    (told,) = (engines / "told").read_text().splitlines()
    words = shlex.split(told)
    assert words[0] == "build"
    assert words[-3:] == ["--network", "host", "."]
    for pair in (
        ["--target", "orchestration"],
        ["--build-arg", "BASE_IMAGE=localhost/python:3.11"],
        ["--secret", f"id=certificates,src={certificates}"],
        ["--build-arg", f"VERSION={VERSION}"],
    ):
        assert any(words[i : i + 2] == pair for i in range(len(words))), pair


def test_a_failed_build_stops_the_script(engines):
    (engines / "buildah").write_text("#!/bin/sh\nexit 7\n")
    assert build(path=engines).returncode == 7


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["training"], "unknown argument training"),
        (["--tag"], "--tag needs a value"),
        (["--engine", "kaniko", "--print"], "docker or buildah"),
        (["--secret", "token=README.md"], "the ids are pip, uv and certificates"),
        (["--secret", "pip=no-such-file"], "there is no such file"),
    ],
)
def test_a_mistake_is_named(arguments, complaint):
    done = build(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
