"""A newcomer's path: the README's console blocks, run as printed in a fresh clone of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
import yaml

from tests.docs.pages import console_lines, words
from tests.e2e.program_script import forking_script

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MINIATURE = Path(__file__).with_name("miniature.yaml")


def environment(folder):
    """A shell's environment that knows nothing of the one the tests run in."""
    foreign = ("MLFLOW_", "AWS_", "DVC_", "V2A_DPO_", "KFP_", "VIRTUAL_ENV", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(folder), "NO_COLOR": "1"}  # the clone's code, not that of the environment


@pytest.fixture(scope="module")
def clone(tmp_path_factory, real_footage):
    """The repository as a newcomer gets it; packages are those of this environment, the loop is the miniature one.

    `v2a-dpo`, also where DVC calls it, is forked from a process that has torch loaded.
    """
    folder = tmp_path_factory.mktemp("newcomer") / "my clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name not in ("bin", ".installed"):
            (folder / ".venv" / part.name).symlink_to(part)
    (folder / ".venv" / "bin").mkdir()
    for program in Path(sys.prefix, "bin").iterdir():
        (folder / ".venv" / "bin" / program.name).symlink_to(program)
    (folder / ".venv" / ".installed").touch()
    given = yaml.safe_load((folder / "params.yaml").read_text())
    params = yaml.safe_load(MINIATURE.read_text()) | {"dvc": given["dvc"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copy(real_footage / "bikes.mp4", folder / "VIDEO.mp4")
    with forking_script(folder / ".venv" / "bin" / "v2a-dpo"):
        yield folder


def run(command, folder):
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def printed(clone):
    """What each command of the README printed, in order; of `make test`, which runs this test, only its plan."""
    outputs, activated = {}, ""
    for line in console_lines(clone / "README.md"):
        outputs[line] = run("make --dry-run test" if line == "make test" else activated + line, clone)
        if line == "source .venv/bin/activate":  # each line has a shell of its own
            activated = f"{line} && "
    return outputs


def test_the_readme_begins_with_two_commands(clone):
    assert [words(line) for line in console_lines(clone / "README.md")][:2] == [["make", "demo"], ["make", "test"]]


def test_the_demo_leaves_what_the_readme_says(clone, printed):
    assert "IB-score" in printed["make demo"]
    assert (clone / "artifacts/report/index.html").stat().st_size > 100_000
    assert (clone / "mlflow.db").exists()
    assert "pytest" in printed["make test"]


def test_a_video_of_ones_own_gets_sound(clone, printed):
    assert (clone / "sound/VIDEO-0.wav").exists()
    with av.open(str(clone / "sound/VIDEO-0.mp4")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


def test_running_again_does_nothing_twice(clone, printed):
    assert "Data and pipelines are up to date." in run("make demo", clone)


def test_the_code_that_ran_was_the_clones(clone):
    where = run(".venv/bin/python -c 'import v2a_dpo; print(v2a_dpo.__file__)'", clone)
    assert Path(where.strip()).is_relative_to(clone)
