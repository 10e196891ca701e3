"""The images' recipe: clean, unprivileged, and with the packages that their stages import."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = {
    "generation": {"models", "training"},
    "scoring": {"models", "scoring", "evaluation"},
    "orchestration": {"evaluation", "tracking"},
}
EVERYWHERE = {"s3", "pipelines"}


def stages() -> dict[str, tuple[str, str]]:
    """Name -> (what it starts from, its instructions), in the order of the file."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    pieces = re.split(r"^FROM (\S+) AS (\S+)\n", text, flags=re.MULTILINE)
    return {name: (base, body) for base, name, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True)}


def locked(lock: Path) -> dict[str, str]:
    """Package -> version of a lock file, whose every entry has a hash."""
    entries = re.findall(
        r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", lock.read_text(), re.MULTILINE
    )
    assert len(entries) == len(re.findall(r"^\S+==", lock.read_text(), re.MULTILINE))
    return {name: version for name, version, _ in entries}


def test_hadolint_finds_nothing():
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(linter), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout


def test_the_base_image_is_an_argument_before_the_first_stage():
    text = DOCKERFILE.read_text()
    assert text.index("ARG BASE_IMAGE=") < text.index("FROM ")
    assert {base for base, _ in stages().values()} <= {"${BASE_IMAGE}", *stages()}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_an_ordinary_user_without_entry_point(target):
    _, body = stages()[target]
    assert body.rstrip().endswith("WORKDIR /home/v2a\nUSER 1000:1000")
    assert f'org.opencontainers.image.title="v2a-dpo-{target}"' in body
    for label in ("description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in body
    assert not re.search(r"^(ENTRYPOINT|CMD|ADD|ONBUILD)\b", DOCKERFILE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_its_own_extras_by_hash_and_no_others(target):
    installed = stages()
    assert set(re.findall(r"--extra (\S+)", installed["core"][1])) == EVERYWHERE
    assert set(re.findall(r"--extra (\S+)", installed[target][1])) == TARGETS[target]
    for name in ("core", "pesq", target):
        assert "/packages/install --require-hashes" in installed[name][1]
    assert set(PROJECT["optional-dependencies"]) >= EVERYWHERE | TARGETS[target]


def test_every_package_of_the_extras_is_locked():
    packages = locked(ROOT / "requirements.lock")
    requirements = [*PROJECT["dependencies"]]
    for extra in EVERYWHERE.union(*TARGETS.values()):
        requirements += PROJECT["optional-dependencies"][extra]
    assert {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements} <= set(packages)


def test_what_only_the_images_need_is_locked_apart_and_agrees_with_the_rest():
    uv = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert uv is not None
    assert locked(ROOT / "docker/packages/uv.lock") == {"uv": uv[1]}
    assert set(locked(ROOT / "docker/packages/postgres.lock")) == {"psycopg2-binary"}


def test_secrets_are_mounted_and_never_written_into_a_layer():
    text = DOCKERFILE.read_text()
    assert set(re.findall(r"--mount=type=secret,id=(\w+)", text)) == {"pip", "uv", "certificates"}
    assert not re.search(r"^(ARG|ENV)\b.*(?i:token|password|index_url|proxy)", text, re.MULTILINE)


def test_the_build_context_is_a_list_of_what_the_images_need():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    admitted = {line[1:] for line in lines if line.startswith("!")}
    text = DOCKERFILE.read_text()
    needed = {*re.findall(r"type=bind,source=([\w./]+)", text), *re.findall(r"^COPY ([\w/]+) ", text, re.MULTILINE)}
    packaged = {"v2a_dpo", "components", "pipelines", "README.md", "LICENSE"}
    assert admitted == needed | packaged
    assert all((ROOT / path).exists() for path in admitted)
