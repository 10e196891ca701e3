"""A finished loop as a data version: committed, pushed to S3, pulled into a fresh clone, and compared with an
experiment."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import forked
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.params import load_params, values_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MINIATURE = Path(__file__).with_name("miniature.yaml")
#: What a clone of the repository brings of what DVC reads.
TRACKED = (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml")


class Clone:
    """A clone of the repository in which git and DVC are called as the documents say."""

    def __init__(self, folder):
        self.folder = folder

    @property
    def environment(self):
        return {
            **os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1", "COLUMNS": "400", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b.c",
            "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b.c",
        }  # fmt: skip

    def git(self, *arguments):
        subprocess.run(["git", *arguments], cwd=self.folder, env=self.environment, check=True)

    def dvc(self, *arguments):
        done = forked.run("dvc", *arguments, folder=self.folder, environment=self.environment)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def files(folder):
    return {str(path.relative_to(folder)): file_checksum(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def remote(s3_endpoint, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import boto3

        boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="data-versions")
        yield "s3://data-versions/v2a-dpo"


@pytest.fixture(scope="module")
def release(loop, remote, s3_endpoint, tmp_path_factory):
    """A repository whose branch holds the finished loop as a data version that is pushed to S3."""
    folder = tmp_path_factory.mktemp("release") / "repository"
    for name in TRACKED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "v2a_dpo", folder / "v2a_dpo", ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load(MINIATURE.read_text()) | {"dvc": values_of(load_params(ROOT / "configs/tiny.yaml"))["dvc"]}
    params["align"]["beta"] = 600.0  # `--set-param` changes what stands in the file
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copytree(loop.root, folder / "artifacts")
    clone = Clone(folder)
    clone.git("init", "-q", "-b", "main")
    clone.dvc("commit", "--force")
    clone.dvc("remote", "add", "--default", "release", remote)
    clone.dvc("remote", "modify", "release", "endpointurl", s3_endpoint)
    clone.git("add", "-A")
    clone.git("commit", "-q", "-m", "Release")
    clone.dvc("push")
    return clone


@pytest.fixture(scope="module")
def pulled(release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    release.git("clone", "-q", str(release.folder), str(folder))
    clone = Clone(folder)
    clone.dvc("pull")
    return clone


def test_a_fresh_clone_pulls_everything_from_s3_and_has_nothing_to_do(release, pulled):
    assert files(pulled.folder / "artifacts") == files(release.folder / "artifacts")
    assert "Data and pipelines are up to date." in pulled.dvc("repro")


def test_an_experiment_with_another_beta_is_compared_in_metrics_and_plots(pulled):
    pulled.dvc("exp", "run", "--name", "beta-200", "--set-param", "align.beta=200", "align")
    table = list(csv.DictReader(io.StringIO(pulled.dvc("exp", "show", "--csv"))))
    rows = {row["Experiment"] or row["rev"]: row for row in table}
    changed = rows["beta-200"]
    before = rows["main"]
    assert (float(before["align.beta"]), float(changed["align.beta"])) == (600, 200)
    metric = next(name for name in changed if name.endswith("after.validation_loss"))
    assert float(before[metric]) != float(changed[metric])
    difference = json.loads(pulled.dvc("metrics", "diff", "--json", "main", "beta-200"))
    assert "artifacts/alignment/summary.json" in difference
    page = pulled.folder / "plots"
    pulled.dvc("plots", "diff", "main", "beta-200", "--out", str(page))
    drawn = (page / "index.html").read_text()
    for title in ("Flow-DPO loss", "AudioScore loss", "IB-score by guidance scale"):
        assert title in drawn
