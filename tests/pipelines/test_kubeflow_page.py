"""docs/kubeflow.md keeps its word: each of its commands runs as printed, and its tables and figures are true."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.scaling import CLIPS_PER_SHARD, GPUS, Assumptions, totals
from pipelines.compilation import PIPELINES, build_pipeline
from tests.pipelines.compilation_memory import remember_compilations
from tests.pipelines.kfp_server import KubeflowServer
from tests.pipelines.pod_server import PodServer
from v2a_dpo.cli.main import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubeflow.md").read_text()
LINES = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
#: What only a machine with a cluster, or with a fresh environment, can run.
ELSEWHERE = re.compile(r"kubectl |pip install |export KFP_\w+=")


@pytest.fixture
def servers(tmp_path, monkeypatch):
    for name in ("KFP_NAMESPACE", "KFP_TOKEN", "KFP_TOKEN_FILE", "KFP_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    remember_compilations(monkeypatch)
    with KubeflowServer() as kubeflow, PodServer("", "v2a-dpo") as pods:
        monkeypatch.setenv("KFP_HOST", kubeflow.url)
        monkeypatch.setenv("KUBECONFIG", str(pods.write_kubeconfig(tmp_path / "kubeconfig")))
        yield kubeflow, pods


def apply(kubeflow, path):
    """Puts the resources of a file where `kubectl apply` would bring them."""
    pipeline, version = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    [pipeline_id] = [key for key, each in kubeflow.pipelines.items() if each["name"] == pipeline["metadata"]["name"]]
    kubeflow.versions["applied"] = {
        "pipeline_version_id": "applied",
        "pipeline_id": pipeline_id,
        "display_name": version["spec"]["displayName"],
        "pipeline_spec": version["spec"]["pipelineSpec"],
    }


@pytest.mark.slow
def test_every_command_works_as_printed(servers, tmp_path):
    kubeflow, pods = servers
    ran = set()
    for line in LINES:
        if line.startswith("kubectl apply"):
            apply(kubeflow, tmp_path / line.split()[-1])
            continue
        if ELSEWHERE.match(line):
            continue
        command, run = re.fullmatch(r"(?:RUN=\$\()?v2a-dpo (.*?)(\))?", line).groups()
        done = CliRunner().invoke(app, shlex.split(command.replace("$RUN", pods.run_id)))
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
        ran.add(command.split()[1])
        if run:
            pods.run_id = done.stdout.strip()
            pods.add("lost", "root.score.executor(0)", phase="Failed", log="out of memory\n")
            pods.add("made", "root.generate.executor", log="Sampling: 4 of 4\n")
    assert ran == {"compile", "submit", "status", "logs", "cancel", "schedule"}


@pytest.mark.slow
def test_the_table_of_pipelines_names_every_input():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]* \| (`[^|]*`) \|$", PAGE, re.MULTILINE))
    assert rows.keys() == PIPELINES.keys()
    for name, inputs in rows.items():
        known = set(build_pipeline(name, preset="cpu").component_spec.inputs)
        assert known == {"params", "root", *re.findall(r"`(\w+)`", inputs)}, name


def test_the_hours_are_those_of_the_scaling_page():
    number = r"(\d+)"
    a100 = f"asks for about {number} A100 hours on one GPU, {number} on eight and {number} on 64"
    [said] = re.findall(f"{a100}, or {number}, {number} and {number} H100", PAGE)
    reckoned = [totals(gpu, count, Assumptions())[1] / 3600 for gpu in GPUS for count in CLIPS_PER_SHARD]
    assert [int(hours) for hours in said] == pytest.approx(reckoned, abs=0.5)
