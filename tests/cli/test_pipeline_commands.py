"""`v2a-dpo pipeline ...` as a person meets it, with the real client and a server on loopback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.pipelines.compilation_memory import remember_compilations
from tests.pipelines.compiled import GOLDEN, GOLDEN_PRESET
from tests.pipelines.kfp_server import KubeflowServer
from v2a_dpo.cli.main import app
from v2a_dpo.cluster.submission import CompiledPipeline
from v2a_dpo.errors import UserError
from v2a_dpo.orchestration.sweep import plan_sweep
from v2a_dpo.params import load_params

ROOT = Path(__file__).parents[2]
COMMANDS = ("compile", "submit", "status", "logs", "cancel", "schedule create", "schedule list", "schedule delete")
INPUTS = ("clips", "conditions", "scorers", "base")
EVALUATE = (
    "evaluate", "--preset", "cpu", "--root", "s3://bucket/evaluation", "--params", str(ROOT / "configs" / "tiny.yaml"),
    *(part for name in INPUTS for part in ("--input", f"{name}=s3://bucket/{name}")),
)  # fmt: skip
TASKS = ("fetch-model", "generate", "score", "evaluate", "report", "summarize-run")


@pytest.fixture
def server():
    with KubeflowServer(tasks=TASKS) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """What the commands compile, they compile once: the same arguments give the same text."""
    with pytest.MonkeyPatch.context() as patch:
        remember_compilations(patch)
        yield


@pytest.fixture(autouse=True)
def environment(server, monkeypatch):
    for name in ("KFP_NAMESPACE", "KFP_TOKEN", "KFP_TOKEN_FILE", "KFP_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KFP_HOST", server.url)
    monkeypatch.setenv("COLUMNS", "160")


def call(*arguments):
    return CliRunner().invoke(app, ["pipeline", *arguments])


def submit(*arguments):
    return call("submit", *EVALUATE, "--poll", "0.01", *arguments)


def run_id_of(done):
    return next(line for line in done.stdout.splitlines() if line.startswith("run_id"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command):
    done = call(*command.split(), "--help")
    assert done.exit_code == 0
    assert f"v2a-dpo pipeline {command}" in done.stdout


def test_help_imports_no_kubeflow():
    program = (
        "import sys; sys.argv = ['v2a-dpo', 'pipeline', '--help']\n"
        "from v2a_dpo.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('kfp', 'kubernetes', 'torch') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow
def test_compile_writes_what_is_uploaded(tmp_path):
    done = call("compile", "evaluate", "--preset", "cpu", "--output", str(tmp_path / "build" / "evaluate.yaml"))
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "build" / "evaluate.yaml")
    spec = next(yaml.safe_load_all((tmp_path / "build" / "evaluate.yaml").read_text()))
    assert spec["pipelineInfo"]["name"] == "evaluate"


@pytest.mark.slow
def test_compile_writes_resources_for_gitops(tmp_path):
    path = tmp_path / "manifests.yaml"
    done = call(
        "compile", "evaluate", "--manifests", "--namespace", "ours", "--output", str(path), "--image-tag", "1.2"
    )
    assert done.exit_code == 0
    pipeline, version = yaml.safe_load_all(path.read_text())
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert {each["metadata"]["namespace"] for each in (pipeline, version)} == {"ours"}
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    executors = version["spec"]["pipelineSpec"]["deploymentSpec"]["executors"].values()
    images = {each["container"]["image"] for each in executors}
    assert {image.rpartition(":")[2] for image in images} == {"1.2"}


def sweep(*inputs, preset="mmaudio-large-44k"):
    given = ("loop_root=s3://bucket/loop", *inputs)
    return call(
        "submit", "sweep", "--preset", "cpu", "--dry-run", "--root", "s3://bucket/sweep",
        "--params", str(ROOT / "configs" / f"{preset}.yaml"), *(part for one in given for part in ("--input", one)),
    )  # fmt: skip


@pytest.mark.slow
def test_a_sweep_without_more_words_is_the_papers_table():
    assert sweep().exit_code == 0
    inputs = CompiledPipeline.of((GOLDEN / f"sweep-{GOLDEN_PRESET}.yaml").read_text()).inputs
    defaults = {name: inputs[name]["defaultValue"] for name in ("betas", "thresholds", "grid")}
    cells = plan_sweep(load_params(ROOT / "configs" / "mmaudio-large-44k.yaml"), **defaults)
    betas = ["beta-600", "beta-1000", "beta-800", "beta-400", "beta-200"]
    thresholds = ["threshold-1", "threshold-0.9", "threshold-0.8", "threshold-0.6"]
    assert cells == [f"{beta}-threshold-0.7" for beta in betas] + [f"beta-600-{threshold}" for threshold in thresholds]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("betas=[200, a]", "betas"),
        ("betas=[]", "betas"),
        ("betas=[200", "--input"),
        ("thresholds=[0.5, 0.5]", "thresholds"),
        ("betas=[-200]", "beta--200-threshold-0.7"),
    ],
)
def test_a_dry_run_refuses_a_sweep_that_its_first_task_would_refuse(given, where):
    done = sweep(given)
    assert isinstance(done.exception, UserError)
    assert done.exception.where == where


def test_a_dry_run_refuses_quantiles_beyond_one():
    assert isinstance(sweep("thresholds=[1.5]", preset="tiny").exception, UserError)
    assert sweep("thresholds=[1.5]").exit_code == 0  # a complexity score may be any number


@pytest.mark.slow
def test_a_dry_run_prints_everything_and_contacts_nobody(server):
    done = submit("--dry-run", "--set", "align.beta=200", "--name", "look", "--image-registry", "registry.example/team")
    assert done.exit_code == 0
    printed = yaml.safe_load(done.stdout)
    assert printed["pipeline"] == "evaluate"
    assert printed["version"].startswith("evaluate-")
    assert (printed["experiment"], printed["run"]) == ("v2a-dpo-tiny", "look")
    assert printed["arguments"]["params"]["align"]["beta"] == 200
    assert printed["arguments"]["root"] == "s3://bucket/evaluation"
    assert all(image.startswith("registry.example/team/v2a-dpo-") for image in printed["images"])
    assert server.requests == []


def test_a_dry_run_says_what_is_then_sent(server):
    printed = yaml.safe_load(submit("--dry-run", "--name", "look").stdout)
    sent = server.runs[run_id_of(submit("--name", "look"))]
    version = server.versions[sent["pipeline_version_reference"]["pipeline_version_id"]]
    assert version["display_name"] == printed["version"]
    assert sent["runtime_config"]["parameters"] == printed["arguments"]
    assert sent["display_name"] == printed["run"]


def test_waiting_for_a_run_that_succeeds_has_status_0_and_shows_each_task(server):
    done = submit("--wait")
    assert done.exit_code == 0, done.output
    assert "score: running" in done.stderr
    assert "score: succeeded" in done.stderr
    assert [task for task in TASKS if task not in done.stdout] == []
    assert "0:01:30" in done.stdout


def test_waiting_for_a_run_that_fails_has_status_1_and_says_where_its_log_is(server):
    server.fails_at = "score"
    done = submit("--wait")
    assert done.exit_code == 1
    assert "task score failed" in done.stderr
    assert f"v2a-dpo pipeline logs {run_id_of(done)} score" in done.stderr


def test_waiting_sits_out_a_server_that_is_away(server):
    done = submit()
    run_id = run_id_of(done)
    server.failures = [("GET", f"/runs/{run_id}", 503)] * 3
    done = call("status", run_id, "--wait", "--poll", "0.01")
    assert done.exit_code == 0
    assert "does not answer" in done.stderr
    assert server.failures == []


def test_a_second_submit_uploads_nothing(server):
    assert "uploaded" in submit().stderr
    assert "already there" in submit().stderr
    assert (len(server.versions), len(server.runs)) == (1, 2)


def test_a_version_that_is_there_runs_without_an_upload(server):
    submit()
    [version] = server.versions.values()
    version["display_name"] = "evaluate-cpu-0-1-0"  # as GitOps names it
    done = submit("--version", "evaluate-cpu-0-1-0")
    assert done.exit_code == 0
    assert len(server.versions) == 1
    assert server.runs[run_id_of(done)]["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    with pytest.raises(UserError, match="no version called another"):
        raise submit("--version", "another").exception


def test_status_shows_a_run_or_the_latest_ones(server):
    run_id = run_id_of(submit("--name", "first"))
    shown = call("status", run_id).stdout
    assert "RUNNING" in shown
    assert "WAITING" in shown
    listed = call("status").stdout
    assert run_id in listed
    assert "first" in listed


def test_cancel_says_what_became_of_the_run(server):
    run_id = run_id_of(submit("--name", "first"))
    assert call("cancel", run_id).stdout.strip() == "first: CANCELED"
    done = call("status", run_id, "--wait")
    assert done.exit_code == 1
    assert "CANCELED" in done.stdout


def test_a_schedule_is_made_listed_and_deleted(server):
    arguments = ("schedule", "create", "weekly", "--cron", "0 3 * * MON", *EVALUATE[1:])
    assert "schedule: cron 0 0 3 * * MON (UTC)" in call(*arguments, "--dry-run").stdout
    assert server.requests == []
    assert call(*arguments).exit_code == 0
    [stored] = server.recurring.values()
    assert stored["runtime_config"]["parameters"]["clips"] == "s3://bucket/clips"
    assert "weekly" in call("schedule", "list").stdout
    assert call("schedule", "delete", "weekly").exit_code == 0
    assert server.recurring == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("submit", *EVALUATE, "--set", "align.beta=-1"), r"align\.beta"),
        (("submit", *EVALUATE, "--input", "model"), r"--input expects name=value, got 'model'"),
        (("submit", *EVALUATE, "--input", "modle=x"), r"no input called modle"),
        (("submit", "evaluate", "--params", str(ROOT / "configs" / "tiny.yaml")), r"needs base, clips"),
        (("submit", "evaluation"), r"no pipeline 'evaluation'.*v2a-dpo.*evaluate"),
        (("submit", "evaluate", "--preset", "huge"), r"no preset 'huge'.*gpu"),
        (("schedule", "create", "weekly", "--every", "often", *EVALUATE[1:]), r"Invalid interval 'often'"),
    ],
)
def test_mistakes_are_found_before_anything_is_contacted(server, arguments, message):
    done = call(*arguments)
    assert isinstance(done.exception, UserError)
    with pytest.raises(UserError, match=message):
        raise done.exception
    assert server.requests == []


@pytest.mark.parametrize(
    ("host", "message"), [("", "address of Kubeflow Pipelines is missing"), ("localhost:8888", "http://")]
)
def test_without_an_address_the_remedy_names_it(monkeypatch, host, message):
    monkeypatch.setenv("KFP_HOST", host)
    with pytest.raises(UserError, match=message):
        raise call("status").exception


def test_the_token_has_no_option_of_its_own():
    done = call("submit", "--help")
    assert "--token-file" in done.stdout
    assert "--token " not in done.stdout


@pytest.mark.slow
def test_the_keyboard_stops_the_waiting_and_not_the_run(server):
    server.tasks = tuple(f"task-{number}" for number in range(10_000))
    # A test run in the background ignores the keyboard, and its children would, too: `env` undoes that.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "v2a_dpo.cli", "pipeline", "submit", *EVALUATE,
         "--wait", "--poll", "0.05"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    while not any(run["looks"] > 1 for run in list(server.runs.values())):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    [run_id] = server.runs
    assert process.returncode == 130
    assert f"The run continues. To stop it: v2a-dpo pipeline cancel {run_id}" in errors
    assert server.runs[run_id]["state"] == "RUNNING"


@pytest.mark.slow
def test_a_real_process_reports_a_server_that_is_away(server):
    done = subprocess.run(
        [sys.executable, "-m", "v2a_dpo.cli", "pipeline", "status", "--host", "http://127.0.0.1:9"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Error: Kubeflow Pipelines does not answer" in done.stderr
    assert "Remedy: Check KFP_HOST" in done.stderr
    assert "Traceback" not in done.stderr
